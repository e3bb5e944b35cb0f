//! The room's end: law 8, **no lost wake** (it wakes everyone, once), and law 5, **echo is receipt** (what was said before
//! it is heard by all, and nothing is said after it).
#![cfg(loom)]

use std::sync::Arc;

use loom::thread;
use loom_tests::{Peer, Task, assert_nothing_left, fill, model, room, wait_watched};
use unisono::room::{Closed, Next};

/// Closing against parking: a reader at the head, one that is blocked, and a sender on a full backlog.
#[test]
fn close_wakes_everyone_once() {
    model(Some(3), || {
        let room = room();
        let [mut reader, mut slow] = ["r", "2"].map(|who| Peer::enter(&room, who));
        let mut sender = Peer::enter_mute(&room, "s");
        slow.forget();
        let bytes = fill(&mut sender, 2);
        let blocked = Arc::<Task>::default();
        slow.member.block(0, &Arc::clone(&blocked).into());
        reader.forget();
        let reading = thread::spawn(move || {
            let (end, waited, task) = wait_watched(|cx| reader.poll_read(cx));
            assert_eq!((end, &*reader.seen), (Next::End, ""));
            (reader, waited, task)
        });
        let saying = thread::spawn(move || {
            let (said, waited, task) = wait_watched(|cx| sender.poll_say("s: x\n", cx));
            assert_eq!(said, Err(Closed));
            (sender, waited, task)
        });
        room.close();
        let (reader, reader_waited, reading) = reading.join().expect("it ends");
        let (sender, sender_waited, saying) = saying.join().expect("it ends");
        assert_eq!(saying.wakes(), usize::from(sender_waited));
        // The sender may have come first, and have everything published: once more.
        assert!((usize::from(reader_waited)..=2 * usize::from(reader_waited)).contains(&reading.wakes()));
        assert_eq!(blocked.wakes(), 1, "it was in the way, or the room ended");
        slow.read_to_end();
        assert_eq!(slow.seen.len(), bytes, "law 2");
        drop((slow, reader, sender));
        assert_nothing_left(&room);
    });
}

/// Closing against saying: the line is heard before the end, or was refused; also in the midst of a sweep.
#[test]
fn line_is_heard_before_the_end_or_refused() {
    model(Some(3), || {
        let room = room();
        let mut sender = Peer::enter_mute(&room, "s");
        let mut reader = Peer::enter(&room, "r");
        let mut slow = Peer::enter(&room, "2");
        slow.look();
        let saying = thread::spawn(move || {
            let said = ["s: x\n", "s: y\n"].map(|line| sender.say(line).is_ok());
            (sender, said)
        });
        let closing = {
            let room = room.clone();
            thread::spawn(move || room.close())
        };
        reader.read_to_end();
        let (sender, said) = saying.join().expect("it ends");
        closing.join().expect("it ends");
        assert_eq!(["s: x\n", "s: y\n"].map(|line| reader.seen.contains(line)), said, "law 5");
        slow.read_to_end();
        assert_eq!(reader.seen, "2 joined\n".to_owned() + &slow.seen, "law 1");
        drop((sender, reader, slow));
        assert_nothing_left(&room);
    });
}

/// Closing against entering and leaving: an arrival is told before the end or not entered, and a departure behind it never.
#[test]
fn nobody_enters_or_departs_behind_the_end() {
    model(Some(3), || {
        let room = room();
        let mut reader = Peer::enter(&room, "r");
        let entering = {
            let room = room.clone();
            thread::spawn(move || Peer::try_enter(&room, "n").is_ok())
        };
        let closing = {
            let room = room.clone();
            thread::spawn(move || {
                room.close();
                room.tally().said_bytes
            })
        };
        reader.read_to_end();
        let entered = entering.join().expect("it ends");
        let said_bytes = closing.join().expect("it ends");
        let brackets = ["", "n joined\n", "n joined\nn left\n"];
        assert!(brackets[usize::from(entered)..=2 * usize::from(entered)].contains(&&*reader.seen), "law 4");
        assert_eq!(room.tally().said_bytes, said_bytes, "nothing is said behind the end");
        drop(reader);
        assert_nothing_left(&room);
    });
}
