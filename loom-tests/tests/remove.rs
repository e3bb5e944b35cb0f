//! Removing a member: law 8, **no lost wake** (whatever it waits for, it finds out), and law 4, **brackets** (its departure stands
//! once, and nothing of it behind that).
#![cfg(loom)]

use loom::thread;
use loom_tests::{Full, Peer, assert_nothing_left, full, model, room};
use unisono::room::Whom;

/// Removing against parking, in the midst of a sweep or not, while somebody speaks.
#[test]
fn removed_reader_finds_its_end() {
    model(Some(3), || {
        let room = room();
        let mut sender = Peer::enter_mute(&room, "s");
        let mut reader = Peer::enter(&room, "r");
        let mut witness = Peer::enter(&room, "w");
        reader.forget();
        witness.forget();
        let reading = thread::spawn(move || {
            reader.read_to_end();
            reader
        });
        let saying = thread::spawn(move || {
            sender.say("s: x\n").expect("the room is open");
            sender
        });
        assert_eq!(room.remove(Whom::Who("r")), 1);
        witness.read_until(|seen| seen.len() == "s: x\nr left\n".len());
        let reader = reading.join().expect("it ends");
        let sender = saying.join().expect("it ends");
        assert!(["", "s: x\n"].contains(&&*reader.seen), "law 2: {:?}", reader.seen);
        assert!(reader.member.is_removed());
        drop((reader, sender, witness));
        assert_nothing_left(&room);
    });
}

/// Removing against the turn that comes: what it says stands before its departure, or was refused; and who comes next in the queue is
/// not forgotten.
#[test]
fn removed_sender_says_nothing_behind_its_departure_and_passes_its_place_on() {
    model(Some(2), || {
        let (Full { room, mut reader, sender, bytes }, [mut first, mut second]) = full(["1", "2"]);
        let saying = thread::spawn(move || {
            let said = first.say("1: x\n").is_ok();
            (first, said)
        });
        let after = thread::spawn(move || {
            second.say("2: x\n").expect("the room is open");
            second
        });
        let removing = {
            let room = room.clone();
            thread::spawn(move || assert_eq!(room.remove(Whom::Who("1")), 1))
        };
        reader.read_until(|seen| seen.contains("1 left\n") && seen.contains("2: x\n"));
        let (first, said) = saying.join().expect("it ends");
        let second = after.join().expect("it ends");
        removing.join().expect("it ends");
        let tail = &reader.seen[bytes..];
        assert_eq!(tail.contains("1: x\n"), said, "law 5");
        assert!(!said || tail.find("1: x\n") < tail.find("1 left\n"), "law 4: {tail:?}");
        drop((first, second, reader, sender));
        assert_nothing_left(&room);
    });
}

/// Removing against leaving, and against another who removes: one departure.
#[test]
fn removed_while_it_leaves_departs_once() {
    model(Some(3), || {
        let room = room();
        let mut witness = Peer::enter(&room, "w");
        let leaver = Peer::enter(&room, "l");
        witness.forget();
        let leaving = thread::spawn(move || drop(leaver));
        let removing = {
            let room = room.clone();
            thread::spawn(move || room.remove(Whom::Who("l")))
        };
        let removed = room.remove(Whom::Who("l"));
        leaving.join().expect("it ends");
        assert!(removed + removing.join().expect("it ends") <= 1);
        assert_eq!(witness.look(), "l left\n", "law 4");
        drop(witness);
        assert_nothing_left(&room);
    });
}
