//! Law 4 where arrivals and departures may be counted instead of told by name: the sums balance, and the budget is kept.

use std::time::Duration;

use super::merge::{Source, wide};
use super::view::View;
use super::{AT_ONCE, Case, PERIOD, SLACK, Told, Violation, found_out_within};

/// A number that is known to lie between two.
#[derive(Clone, Copy, Debug, Default)]
struct Between {
    least: i64,
    most: i64,
}

impl Between {
    fn add(&mut self, is_sure: bool, may_be: bool) {
        self.least += i64::from(is_sure);
        self.most += i64::from(is_sure || may_be);
    }
}

/// No more are counted than may have come and gone by then without being told of by name.
pub(super) fn check_counts(case: &Case<'_>, told: &Told, wrong: &mut Vec<Violation>) {
    let counts = &told.story.counts;
    // How many more there may be in each count than in the one before.
    let (mut came, mut went) = (vec![0; counts.len()], vec![0; counts.len()]);
    let first_from = |place: i64| counts.partition_point(|(step, ..)| told.place(*step) < place);
    for &number in case.members.iter().filter(|&&number| !case.views[number].is_refused) {
        let view = &case.views[number];
        let begin = told.part.begins.get(&number).copied();
        let never_leaves = case.life.stopping.is_some_and(|stopping| !case.may_have_gone(view, stopping, stopping));
        if !told.story.arrived.contains_key(&number)
            && let Some(came) = came.get_mut(begin.map_or(0, first_from))
        {
            *came += 1;
        }
        let is_named = told.story.departed.contains_key(&number) || told.story.heard.contains(&number);
        if !is_named
            && !never_leaves
            && let Some(went) = went.get_mut(begin.map_or(0, |begin| first_from(begin + view.len())))
        {
            *went += 1;
        }
    }
    let mut sums = [(0, 0, "came", "joined"), (0, 0, "went", "left")];
    for (number, &(step, joined, left)) in counts.iter().enumerate() {
        sums[0] = (sums[0].0 + joined, sums[0].1 + came[number], sums[0].2, sums[0].3);
        sums[1] = (sums[1].0 + left, sums[1].1 + went[number], sums[1].2, sums[1].3);
        if let Some((counted, most, did, _)) = sums.iter().find(|(counted, most, ..)| counted > most) {
            let slot = &told.part.slots[step];
            let line = super::Part::line(case.views, slot.source).unwrap_or_default();
            let blame = Violation::of("sums-balance", &[]).line(line).at(slot.first);
            let detail = format!("{counted} are counted up to here, and at most {most} {did} without being named");
            wrong.push(blame.because(detail));
            return;
        }
    }
}

/// At the quiet end, by one who has seen everything since it entered: who was there, and came, is who went, and is there.
pub(super) fn check_balance(case: &Case<'_>, told: &Told, here: &[usize], wrong: &mut Vec<Violation>) {
    let (Some(healed), Some(sample)) = (&case.history.healed, case.quiet_sample()) else { return };
    if case.may_be_full() {
        return;
    }
    let whole = here.iter().filter(|&&number| case.views[number].runs.is_empty());
    let placed = whole.filter_map(|&number| Some((*told.part.begins.get(&number)?, number)));
    let Some((begin, witness)) = placed.min() else { return };
    let settled = healed.end.saturating_sub(SLACK);
    let is_seen = |step: usize| told.place(step) >= begin && told.part.slots[step].first <= sample.at;
    let is_told_gone = |number: &usize| {
        let departed = told.story.departed.get(number);
        departed.is_some_and(|(step, _)| {
            told.part.slots[*step].first <= sample.at && matches!(told.part.slots[*step].source, Source::Line(..))
        })
    };
    let (mut before, mut untold, mut unsettled) = (Between::default(), 0, 0);
    for &number in case.members.iter().filter(|&&number| !case.views[number].is_refused) {
        let view = &case.views[number];
        let (is_sure, may_be) = was_told(case, told, number, (begin, witness));
        before.add(is_sure, may_be);
        untold += i64::from(view.connected > settled);
        let is_settled = here.contains(&number) || is_told_gone(&number) || is_gone(case, view, settled);
        unsettled += i64::from(!is_settled);
    }
    let arrived = wide(told.story.arrived.values().filter(|step| is_seen(**step)).count());
    let departed = told.story.departed.iter().filter(|(number, (step, _))| is_seen(*step) && is_told_gone(number));
    let departed = wide(departed.count());
    let counts = told.story.counts.iter().filter(|(step, ..)| is_seen(*step));
    let (joined, left) = counts.fold((0, 0), |sums, (_, joined, left)| (sums.0 + joined, sums.1 + left));
    let told_here = arrived + joined - departed - left;
    let members = wide(sample.members);
    if before.most + told_here + untold < members || before.least + told_here - unsettled > members {
        let detail = format!(
            "since #{} came {arrived} and {joined} came, {departed} and {left} went, {} to {} were there, and {members} are",
            case.views[witness].client, before.least, before.most,
        );
        let blame = Violation::of("sums-balance", &[case.views[witness].client]).at(sample.at);
        wrong.push(blame.because(detail));
    }
}

/// Whether it surely was, and whether it may have been, one of those who were there and told of when the witness entered.
fn was_told(case: &Case<'_>, told: &Told, number: usize, (entered, witness): (i64, usize)) -> (bool, bool) {
    const NO: (bool, bool) = (false, false);
    let (view, seer) = (&case.views[number], &case.views[witness]);
    let begin = told.part.begins.get(&number);
    let departed = told.story.departed.get(&number).map(|(step, _)| told.place(*step));
    if departed.is_some_and(|departed| departed < entered) {
        return NO;
    }
    let is_in = departed.is_some() || begin.is_some_and(|begin| begin + view.len() > entered);
    if let Some(arrived) = told.story.arrived.get(&number).map(|step| told.place(*step)) {
        // If nothing is known of its end, it may have gone in silence.
        return if arrived >= entered { NO } else { (is_in, true) };
    }
    if number == witness {
        // Nobody else saw its arrival: it was told of if the budget had any.
        let is_unseen = told.part.slot(entered - 1).is_none_or(|slot| slot.source == Source::Unseen);
        let is_first = case.members.iter().all(|other| *other == number || comes_after(case, *other, witness));
        let has_budget = case.history.rules.limits.announcements.is_some_and(|most| most > 0);
        let may_be_told = is_unseen && (has_budget || view.is_trusted);
        return (may_be_told && (is_first || view.is_trusted), may_be_told);
    }
    let is_counted =
        |begin: &i64| told.story.counts.iter().any(|(step, ..)| (*begin..entered).contains(&told.place(*step)));
    match begin {
        Some(begin) if *begin > entered => NO,
        Some(begin) if is_in && is_counted(begin) => (true, true),
        None if comes_after(case, number, witness) => NO,
        _ => (false, view.in_from() <= seer.welcomed.unwrap_or(Duration::MAX) || !case.is_awake(number)),
    }
}

/// It surely came only when the witness had been welcomed.
fn comes_after(case: &Case<'_>, number: usize, witness: usize) -> bool {
    let (view, seer) = (&case.views[number], &case.views[witness]);
    let is_later = seer.welcomed.is_some_and(|welcomed| view.in_from() > welcomed);
    view.is_refused || is_later && case.is_awake(number) && case.is_awake(witness)
}

/// Its departure must have been placed, and told in whatever way, by this time.
fn is_gone(case: &Case<'_>, view: &View, by: Duration) -> bool {
    let bound = found_out_within(&case.history.rules.limits).saturating_add(SLACK);
    let vanished = view.reset.or(view.received_error).map(|at| at.saturating_add(bound));
    [view.received_end, vanished].into_iter().flatten().any(|at| at.saturating_add(PERIOD) <= by)
}

/// As they come to who reads all the time, so many names and one count a period. A period begins when a name is told or
/// somebody is counted, so a span of some periods touches one more; but a count stands at its end.
pub(super) fn check_budget(case: &Case<'_>, told: &Told, most: usize, wrong: &mut Vec<Violation>) {
    let seen = case.seen_by_the_awake(told);
    let of = |steps: &mut dyn Iterator<Item = usize>| {
        let mut seen: Vec<(Duration, usize)> = steps.filter_map(|step| Some((seen[step]?, step))).collect();
        seen.sort_unstable();
        seen
    };
    let names = of(&mut told.story.spent.iter().copied());
    let counts = of(&mut told.story.counts.iter().map(|(step, ..)| *step));
    for (kind, told_of, most, more) in [("names", names, most, 1), ("counts", counts, 1, 0)] {
        let mut periods: u32 = 1;
        while let Some(over) = most.checked_mul((periods + more) as usize).filter(|over| *over < told_of.len()) {
            let span = (PERIOD * periods).saturating_sub(2 * AT_ONCE);
            let spans = told_of.iter().zip(&told_of[over..]);
            let mut spans = spans.map(|((from, _), (until, step))| (until.saturating_sub(*from), *until, *step));
            if let Some((took, until, step)) = spans.find(|(took, ..)| *took < span) {
                let line = super::Part::line(case.views, told.part.slots[step].source).unwrap_or_default();
                let blame = Violation::of("budget-is-kept", &[]).line(line).at(until);
                let detail = format!("{} {kind} were told within {took:?}, of at most {most} a period", over + 1);
                wrong.push(blame.because(detail));
                return;
            }
            periods *= 2;
        }
    }
}
