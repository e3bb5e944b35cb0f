//! Numbers drawn from a seed: the same on every machine, in every build, for ever.
//!
//! `SplitMix64` (Steele, Lea and Flood, 2014). What is drawn for one purpose must not move what is drawn for another, or a plan
//! could not be shrunk: so each purpose [forks](Random::fork) a generator of its own.

use std::ops::RangeInclusive;

/// A generator of numbers.
///
/// ```
/// use sim_tests::random::Random;
///
/// let mut random = Random::new(7);
/// let drawn = (random.below(6), random.range(10..=12), *random.pick(&["a", "b"]));
/// let mut again = Random::new(7);
/// assert_eq!(drawn, (again.below(6), again.range(10..=12), *again.pick(&["a", "b"])));
/// assert_eq!(random.fork("lines").next_u64(), Random::new(7).fork("lines").next_u64());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    seed: u64,
    state: u64,
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads every bit of a number over all of it.
pub(crate) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Random {
    /// A generator for `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// Any number.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number below `bound`, each as likely as any other.
    ///
    /// # Panics
    ///
    /// When `bound` is zero: there is none.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below zero");
        // Lemire's multiplication; what would make some numbers likelier is drawn again.
        let unfair = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(bound);
            let (high, low) = (wide >> 64, wide & u128::from(u64::MAX));
            if low >= u128::from(unfair) {
                return u64::try_from(high).expect("below a u64");
            }
        }
    }

    /// An index into something of `len` entries.
    ///
    /// # Panics
    ///
    /// When `len` is zero.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// A number within `range`, its ends included.
    ///
    /// # Panics
    ///
    /// When `range` is empty.
    pub fn range(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (least, most) = range.into_inner();
        match (most.checked_sub(least).expect("a range has a number in it")).checked_add(1) {
            Some(count) => least + self.below(count),
            None => self.next_u64(),
        }
    }

    /// True `hits` times out of `of`; nothing is drawn when that is never or always.
    ///
    /// # Panics
    ///
    /// When `hits` is more than `of`, or `of` is zero.
    pub fn chance(&mut self, hits: u64, of: u64) -> bool {
        assert!(of > 0, "out of nothing there are no odds");
        assert!(hits <= of, "odds are at most certain");
        hits == of || (hits > 0 && self.below(of) < hits)
    }

    /// One of `choices`.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.index(choices.len())]
    }

    /// Puts `items` into any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// A generator for the purpose `label`: it depends on the seed and the label, not on what was drawn before.
    #[must_use]
    pub fn fork(&self, label: &str) -> Self {
        // FNV-1a.
        let hash = label
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        self.fork_at(hash)
    }

    /// As [`fork`](Self::fork), for a purpose that has a number.
    #[must_use]
    pub const fn fork_at(&self, number: u64) -> Self {
        Self::new(mix(mix(self.seed.wrapping_add(STEP)) ^ number.wrapping_add(STEP)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_published_ones() {
        let mut random = Random::new(1_234_567);
        let drawn = [(); 3].map(|()| random.next_u64());
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn draws_stay_within_their_bounds_and_reach_them() {
        let mut random = Random::new(0);
        let mut met = [0_u32; 5];
        for _ in 0..5_000 {
            met[random.index(5)] += 1;
            assert!((3..=4).contains(&random.range(3..=4)));
        }
        assert!(met.iter().all(|&count| (900..1_100).contains(&count)), "{met:?}");
        assert_eq!((random.range(9..=9), random.below(1)), (9, 0));
        let _any = random.range(0..=u64::MAX);
    }

    #[test]
    fn odds_of_never_and_always_draw_nothing() {
        let mut random = Random::new(3);
        let before = random.clone();
        assert!(!random.chance(0, 5));
        assert!(random.chance(5, 5));
        assert_eq!(random, before);
        let hits = (0..4_000).filter(|_| random.chance(1, 4)).count();
        assert!((900..1_100).contains(&hits), "{hits}");
    }

    #[test]
    fn fork_depends_on_seed_and_label_alone() {
        let mut random = Random::new(9);
        let before = random.fork("clients");
        random.next_u64();
        assert_eq!(random.fork("clients"), before);
        assert_ne!(random.fork("faults"), before);
        assert_ne!(Random::new(10).fork("clients"), before);
        assert_ne!(random.fork_at(0), random.fork_at(1));
    }

    #[test]
    fn shuffle_keeps_everything() {
        let mut items: Vec<u32> = (0..50).collect();
        Random::new(1).shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert!(items.into_iter().eq(0..50));
    }
}
