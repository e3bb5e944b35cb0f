//! Laws 1, **one order**, 2, **no holes**, 4, **brackets**, and 5, **echo is receipt**: saying, entering and leaving are one
//! step each, so whoever reads sees the same sequence, and the stretch of each member in it is exact.
#![cfg(loom)]

use loom::thread;
use loom_tests::{Peer, assert_nothing_left, model, room};
use unisono::name::Name;
use unisono::room::Taken;

/// Says `line`, and reads until it has seen `bytes`.
fn say_and_read(mut peer: Peer, line: &str, bytes: usize) -> Peer {
    peer.say(line).expect("the room is open");
    peer.read(bytes);
    peer
}

/// Saying against saying: both senders and a third hear both lines, in one order.
#[test]
fn two_senders_are_heard_in_one_order_by_all() {
    model(Some(2), || {
        let room = room();
        let [mut one, mut two, mut witness] = ["1", "2", "w"].map(|who| Peer::enter(&room, who));
        for peer in [&mut one, &mut two, &mut witness] {
            peer.forget();
        }
        let one = thread::spawn(move || say_and_read(one, "1: x\n", 10));
        let two = thread::spawn(move || say_and_read(two, "2: y\n", 10));
        witness.read(10);
        let (one, two) = (one.join().expect("it ends"), two.join().expect("it ends"));
        assert!(["1: x\n2: y\n", "2: y\n1: x\n"].contains(&&*witness.seen), "{}", witness.seen);
        assert_eq!([&one.seen, &two.seen], [&witness.seen; 2], "law 1");
        drop((one, two, witness));
        assert_nothing_left(&room);
    });
}

/// Entering against saying: the newcomer sees all that comes behind its arrival, and nothing that came before.
#[test]
fn newcomer_sees_all_behind_its_arrival() {
    model(Some(3), || {
        let room = room();
        let mut witness = Peer::enter(&room, "w");
        let mut sender = Peer::enter_mute(&room, "s");
        let saying = thread::spawn(move || {
            sender.say("s: x\n").expect("the room is open");
            sender
        });
        let entering = {
            let room = room.clone();
            thread::spawn(move || {
                let mut newcomer = Peer::enter(&room, "n");
                newcomer.say("n: y\n").expect("the room is open");
                newcomer.read_until(|seen| seen.contains("n: y\n"));
                newcomer
            })
        };
        witness.read(28);
        let (_, behind) = witness.seen.split_once("n joined\n").expect("law 4: it is told");
        let mut newcomer = entering.join().expect("it ends");
        assert_eq!(newcomer.look(), behind, "law 2");
        drop((newcomer, witness, saying.join().expect("it ends")));
        assert_nothing_left(&room);
    });
}

/// Leaving against saying: who leaves sees all that comes before its departure, and nothing behind.
#[test]
fn leaver_sees_all_before_its_departure() {
    model(Some(3), || {
        let room = room();
        let [mut witness, mut leaver] = ["w", "l"].map(|who| Peer::enter(&room, who));
        let mut sender = Peer::enter_mute(&room, "s");
        witness.forget();
        leaver.forget();
        let saying = thread::spawn(move || {
            sender.say("s: x\n").expect("the room is open");
            sender
        });
        let leaving = thread::spawn(move || {
            leaver.member.place_end();
            leaver.read_to_end();
            leaver
        });
        witness.read(12);
        let (before, _) = witness.seen.split_once("l left\n").expect("law 4: it is told");
        let leaver = leaving.join().expect("it ends");
        assert_eq!(leaver.seen, before, "law 5");
        drop((leaver, witness, saying.join().expect("it ends")));
        assert_nothing_left(&room);
    });
}

/// Takes a name; muted peers need no echo.
fn rename(mut peer: Peer) -> (Peer, Result<(), Taken>) {
    let mut turn = peer.turn().expect("the room is open");
    let result = peer.member.rename(&mut turn, &Name::parse(b"Ann").expect("a good name"));
    drop(turn);
    (peer, result)
}

/// Renaming against renaming: a name that two want at once is given to one of them, and told once.
#[test]
fn name_that_two_take_is_given_to_one() {
    model(None, || {
        let room = room();
        let mut witness = Peer::enter(&room, "w");
        let [one, two] = ["1", "2"].map(|who| Peer::enter_mute(&room, who));
        let other = thread::spawn(move || rename(two));
        let (one, first) = rename(one);
        let (two, second) = other.join().expect("it ends");
        assert_eq!([first, second].into_iter().flatten().count(), 1, "it is one's");
        assert_eq!(witness.look().matches(" is now Ann\n").count(), 1);
        drop((one, two, witness));
        assert_nothing_left(&room);
    });
}

/// Renaming against leaving: a name is free once the departure of who had it is told, so that nobody seems to be two.
#[test]
fn name_is_free_behind_the_departure_of_who_had_it() {
    model(None, || {
        let room = room();
        let mut witness = Peer::enter(&room, "w");
        let [goes, takes] = ["1", "2"].map(|who| Peer::enter_mute(&room, who));
        let (goes, _) = rename(goes);
        let going = thread::spawn(move || drop(goes));
        let (takes, result) = rename(takes);
        going.join().expect("it ends");
        let seen = witness.look();
        let taken = seen.find("2 is now Ann\n");
        assert_eq!(taken.is_some(), result.is_ok());
        let departed = seen.find("Ann left\n").expect("law 4: it is told");
        assert!(taken.is_none_or(|taken| departed < taken), "law 4: {seen}");
        drop((takes, witness));
        assert_nothing_left(&room);
    });
}
