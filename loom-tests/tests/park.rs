//! Law 8, **no lost wake**: whatever moves the head past a parked reader wakes it, once.
//!
//! Readers are woken in sweeps, and while a woken one has not been heard of, nobody is woken anew. So there are two ways to
//! be forgotten: parked between looking and being looked for, or waiting for a sweep that nobody begins.
#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use loom::thread;
use loom_tests::{Peer, Task, assert_nothing_left, model, prompt_room, room, wait_by};

/// Appending against parking: were looking and parking two steps, the line could come between them.
#[test]
fn reader_parked_at_the_head_sees_the_next_line() {
    model(None, || {
        let room = room();
        let mut reader = Peer::enter(&room, "r");
        let sender = {
            let room = room.clone();
            thread::spawn(move || Peer::enter(&room, "s").say("s: x\n").expect("the room is open"))
        };
        reader.read(21);
        assert_eq!(reader.seen, "s joined\ns: x\ns left\n");
        sender.join().expect("it ends");
        drop(reader);
        assert_nothing_left(&room);
    });
}

/// Appending against checking in: what is said during a sweep waits for its end, and whoever ends it begins the next.
#[test]
fn line_said_during_a_sweep_is_told_by_the_next() {
    two_lines_and_two_readers(0);
}

/// Appending against checking in, where the sweep takes a line along: who has checked in by then is told by the next, and who
/// has not is told once.
#[test]
fn line_told_amid_a_sweep_comes_to_those_it_is_done_with() {
    two_lines_and_two_readers(5);
}

fn two_lines_and_two_readers(prompt_bytes: usize) {
    model(Some(3), move || {
        let room = prompt_room(prompt_bytes);
        let [mut one, mut two] = ["1", "2"].map(|who| Peer::enter(&room, who));
        let mut sender = Peer::enter_mute(&room, "s");
        let saying = thread::spawn(move || {
            sender.say("s: x\n").expect("the room is open");
            sender.say("s: y\n").expect("the room is open");
            sender
        });
        let reading = thread::spawn(move || {
            two.read(19);
            two
        });
        one.read(28);
        let (sender, two) = (saying.join().expect("it ends"), reading.join().expect("it ends"));
        assert_eq!(one.seen, "2 joined\ns joined\ns: x\ns: y\n");
        assert_eq!(two.seen, one.seen[9..]);
        drop((one, two, sender));
        assert_nothing_left(&room);
    });
}

/// Appending against the last check-in, before which the reader comes again: what is said until then it takes along, and what
/// is said later is told by the sweep after that.
#[test]
fn last_of_a_sweep_lets_others_speak() {
    static LATERS: AtomicUsize = AtomicUsize::new(0);
    model(Some(3), || {
        let room = room();
        let [mut one, mut two] = ["1", "2"].map(|who| Peer::enter(&room, who));
        let mut sender = Peer::enter_mute(&room, "s");
        one.forget();
        two.forget();
        // A sweep is under way, and a line has gathered.
        sender.say("s: x\n").expect("the room is open");
        sender.say("s: y\n").expect("the room is open");
        let saying = thread::spawn(move || {
            sender.say("s: z\n").expect("the room is open");
            sender
        });
        let reading = thread::spawn(move || {
            two.read(15);
            two
        });
        one.read(15);
        let (sender, two) = (saying.join().expect("it ends"), reading.join().expect("it ends"));
        assert_eq!([&*one.seen, &two.seen], ["s: x\ns: y\ns: z\n"; 2], "law 1");
        LATERS.fetch_add(one.laters + two.laters, Ordering::Relaxed);
        drop((one, two, sender));
        assert_nothing_left(&room);
    });
    assert!(LATERS.load(Ordering::Relaxed) > 0, "somebody was the last");
}

/// Dropping a parked reader (a cancelled task) against the sweep that has woken it: who is gone must not be waited for.
#[test]
fn reader_dropped_during_a_sweep_is_not_waited_for() {
    model(Some(3), || {
        let room = room();
        let [mut goes, mut stays] = ["1", "2"].map(|who| Peer::enter(&room, who));
        let mut sender = Peer::enter_mute(&room, "s");
        let task = Arc::<Task>::default();
        assert!(goes.poll_read(&mut Context::from_waker(&Arc::clone(&task).into())).is_pending());
        let saying = thread::spawn(move || {
            sender.say("s: x\n").expect("the room is open");
            sender.say("s: y\n").expect("the room is open");
            sender
        });
        let going = thread::spawn(move || drop(goes));
        stays.read(26);
        assert_eq!(stays.seen.replace("1 left\n", ""), "s joined\ns: x\ns: y\n", "law 4: one departure");
        going.join().expect("it ends");
        task.assert_forgotten();
        drop((stays, saying.join().expect("it ends")));
        assert_nothing_left(&room);
    });
}

/// Blocking against the sweep that has woken it: whose connection takes nothing must not hold up those whose does.
#[test]
fn reader_that_blocks_during_a_sweep_is_not_waited_for() {
    model(Some(3), || {
        let room = room();
        let [mut slow, mut reader] = ["1", "2"].map(|who| Peer::enter(&room, who));
        let mut sender = Peer::enter_mute(&room, "s");
        slow.look();
        let saying = thread::spawn(move || {
            sender.say("s: x\n").expect("the room is open");
            sender.say("s: y\n").expect("the room is open");
            sender
        });
        let blocking = thread::spawn(move || {
            slow.member.block(0, Waker::noop());
            slow
        });
        reader.read(19);
        assert_eq!(reader.seen, "s joined\ns: x\ns: y\n");
        let mut slow = blocking.join().expect("it ends");
        assert_eq!(slow.look(), "2 joined\ns joined\ns: x\ns: y\n", "law 2: it misses nothing");
        drop((slow, reader, saying.join().expect("it ends")));
        assert_nothing_left(&room);
    });
}

/// Appending against polling by another waker (its task was moved): the last one is woken.
#[test]
fn reader_is_woken_by_the_waker_of_its_last_poll() {
    model(None, || {
        let room = room();
        let mut reader = Peer::enter(&room, "r");
        let mut sender = Peer::enter_mute(&room, "s");
        reader.look();
        let saying = thread::spawn(move || {
            sender.say("s: x\n").expect("the room is open");
            sender
        });
        reader.read(14);
        drop((reader, saying.join().expect("it ends")));
        assert_nothing_left(&room);
    });
}

/// Appending against polls that nothing asked for: nothing is lost or read twice, and nobody is woken twice for a sweep.
#[test]
fn spurious_polls_neither_lose_nor_repeat_a_line() {
    model(None, || {
        let room = room();
        let mut reader = Peer::enter(&room, "r");
        let mut sender = Peer::enter_mute(&room, "s");
        let saying = thread::spawn(move || {
            sender.say("s: x\n").expect("the room is open");
            sender.say("s: y\n").expect("the room is open");
            sender
        });
        let task = Arc::default();
        wait_by(&task, |cx| {
            assert!(reader.poll_read(cx).is_pending());
            assert!(reader.poll_read(cx).is_pending());
            if reader.seen.len() < 19 { Poll::Pending } else { Poll::Ready(()) }
        });
        assert_eq!(reader.seen, "s joined\ns: x\ns: y\n");
        drop(saying.join().expect("it ends"));
        assert!(task.wakes() <= 3, "one wake for each sweep");
        assert_eq!(reader.look(), "s joined\ns: x\ns: y\ns left\n");
        drop(reader);
        assert_nothing_left(&room);
    });
}
