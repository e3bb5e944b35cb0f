//! Law 8, **no lost wake**, on a full backlog: a parked sender is woken by whatever frees it, first come, first served; and
//! a reader that is in its way is told so.
#![cfg(loom)]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use loom::thread;
use loom_tests::{BLOCK_BYTES, Full, Peer, Task, assert_nothing_left, block, fill, full, model, room, wait};
use unisono::room::LetGo;

const LINE: &str = "s: x\n";

/// One thread says a line in a full room, the other does something to the reader in its way.
fn freed_by(free: impl FnOnce(Peer, usize) -> Option<Peer> + 'static) {
    let (Full { room, reader, mut sender, bytes }, []) = full([]);
    let freeing = thread::spawn(move || free(reader, bytes));
    sender.say(LINE).expect("the room is open");
    drop((sender, freeing.join().expect("it ends")));
    assert_nothing_left(&room);
}

/// Parking against reading: what the reader passes is dropped, and the sender goes on.
#[test]
fn sender_is_woken_by_a_reader_that_reads() {
    model(None, || {
        freed_by(|mut reader, bytes| {
            reader.read(bytes + LINE.len());
            assert!(reader.seen.ends_with(LINE));
            Some(reader)
        });
    });
}

/// Parking against a reader that is dropped.
#[test]
fn sender_is_woken_by_a_reader_that_goes() {
    model(None, || {
        freed_by(|reader, _| {
            drop(reader);
            None
        });
    });
}

/// Parking against a reader whose connection breaks: it reads no more, but is still a member.
#[test]
fn sender_is_woken_by_a_reader_that_stops_reading() {
    model(None, || {
        freed_by(|mut reader, _| {
            reader.member.stop_reading();
            Some(reader)
        });
    });
}

/// Parking against polling by another waker (the sender's task was moved): the last one is woken.
#[test]
fn sender_is_woken_by_the_waker_of_its_last_poll() {
    model(None, || {
        let (Full { room, mut reader, mut sender, bytes }, []) = full([]);
        let reading = thread::spawn(move || reader.read(bytes + LINE.len()));
        if sender.poll_say(LINE, &mut Context::from_waker(Waker::noop())).is_pending() {
            sender.say(LINE).expect("the room is open");
        }
        reading.join().expect("it ends");
        drop(sender);
        assert_nothing_left(&room);
    });
}

/// Blocks until it is in the way, and then has itself let go.
fn let_go(reader: &mut Peer) -> LetGo {
    wait(|cx| {
        let is_in_the_way = reader.member.block(0, cx.waker());
        let let_go = if is_in_the_way { reader.member.let_go() } else { None };
        let_go.map_or(Poll::Pending, Poll::Ready)
    })
}

/// Laws 2, **no holes**, and 6, **bounded patience**. Blocking against a sender that parks: whichever comes second tells
/// the reader that it is in the way. Letting go against a departure, which waits for nothing: the count is exact.
#[test]
fn reader_that_is_let_go_is_told_how_many_lines_it_missed() {
    model(Some(3), || {
        let (Full { room, mut reader, mut sender, .. }, [goes]) = full(["g"]);
        let saying = thread::spawn(move || {
            sender.say(LINE).expect("the room is open");
            sender
        });
        let going = thread::spawn(move || drop(goes));
        let LetGo { missed_lines, torn } = let_go(&mut reader);
        assert!(torn.is_empty(), "it was let go between two lines");
        // Three that filled the room, the departure, and the line.
        let left = 5 - missed_lines;
        reader.read_until(|seen| seen.lines().count() as u64 >= left);
        let mut sender = saying.join().expect("it ends");
        going.join().expect("it ends");
        sender.say("s: last\n").expect("the room is open");
        let seen = reader.look();
        assert_eq!(missed_lines + seen.lines().count() as u64, 6, "law 2");
        assert!(seen.ends_with("s: last\n"));
        let tally = room.tally();
        assert_eq!((tally.let_gos, tally.missed_lines), (1, missed_lines));
        drop((reader, sender));
        assert_nothing_left(&room);
    });
}

/// Two parked senders and a place for one turn: it is the first's, whoever runs first.
#[test]
fn senders_are_served_first_come_first_served() {
    model(Some(3), || {
        let room = room();
        let mut reader = Peer::enter(&room, "r");
        let [mut first, second, mut third] = ["1", "2", "3"].map(|who| Peer::enter_mute(&room, who));
        reader.forget();
        // While this turn is out there is never a place for two more.
        let kept = third.turn().expect("the room is open");
        let bytes = fill(&mut first, 1);
        assert!(first.poll_say(LINE, &mut Context::from_waker(Waker::noop())).is_pending());
        let others = [(first, LINE), (second, "2: y\n")].map(|(mut peer, line)| {
            thread::spawn(move || {
                peer.say(line).expect("the room is open");
                peer
            })
        });
        reader.read(bytes + 10);
        assert!(reader.seen.ends_with("s: x\n2: y\n"), "{}", &reader.seen[bytes..]);
        drop((reader, kept, third, others.map(|other| other.join().expect("it ends"))));
        assert_nothing_left(&room);
    });
}

/// The first in the queue gives up its place, against its being woken for its turn: the next gets it.
fn passed_on_by(give_up: impl FnOnce(Peer) -> Option<Peer> + 'static) {
    let (Full { room, mut reader, sender: mut first, bytes }, [mut second]) = full(["2"]);
    let task = Arc::<Task>::default();
    assert!(first.poll_say(LINE, &mut Context::from_waker(&Arc::clone(&task).into())).is_pending());
    let giving_up = thread::spawn(move || give_up(first));
    let saying = thread::spawn(move || {
        second.say("2: y\n").expect("the room is open");
        second
    });
    reader.read_until(|seen| seen.contains("2: y\n"));
    let first = giving_up.join().expect("it ends");
    task.assert_forgotten();
    let departed = if first.is_none() { "s left\n".len() } else { 0 };
    assert_eq!(reader.look().len(), bytes + 5 + departed);
    drop((reader, first, saying.join().expect("it ends")));
    assert_nothing_left(&room);
}

/// A parked sender is dropped (a cancelled task).
#[test]
fn parked_sender_that_is_dropped_passes_its_turn_on() {
    model(Some(3), || {
        passed_on_by(|first| {
            drop(first);
            None
        });
    });
}

/// A parked sender is told something, and says nothing before that is sent.
#[test]
fn parked_sender_that_gives_up_its_place_passes_its_turn_on() {
    model(Some(3), || {
        passed_on_by(|mut first| {
            first.member.give_up_turn();
            Some(first)
        });
    });
}

/// A room that is full of promises: a turn that is dropped unused against a sender that parks.
#[test]
fn turn_that_is_not_used_is_passed_on() {
    model(None, || {
        let room = room();
        let [mut one, mut two, mut sender] = ["1", "2", "s"].map(|who| Peer::enter_mute(&room, who));
        let unused = one.turn().expect("the room is open");
        let kept = two.turn().expect("the room is open");
        let dropping = thread::spawn(move || drop(unused));
        sender.say(LINE).expect("the room is open");
        dropping.join().expect("it ends");
        drop((kept, one, two, sender));
        assert_nothing_left(&room);
    });
}

/// Law 7, **bounded memory**: turns that are out at once never promise more than there is room for.
#[test]
fn turns_that_are_out_count_as_said() {
    model(Some(3), || {
        let room = room();
        let mut reader = Peer::enter(&room, "r");
        let [one, two, mut sender] = ["1", "2", "s"].map(|who| Peer::enter_mute(&room, who));
        reader.forget();
        let line = block(&room);
        sender.say(&line).expect("the room is open");
        let mut turn = sender.turn().expect("the room is open");
        // The oldest segment is one line here; a turn may pass the backlog by its own bytes.
        let held_bytes_max = BLOCK_BYTES + room.limits().backlog_bytes + BLOCK_BYTES;
        let others = [one, two].map(|mut peer| {
            let (line, room) = (line.clone(), room.clone());
            thread::spawn(move || {
                peer.say(&line).expect("the room is open");
                assert!(room.tally().held_bytes <= held_bytes_max, "law 7");
                peer
            })
        });
        sender.member.say(&mut turn, line.as_bytes()).expect("the room is open");
        drop(turn);
        assert!(room.tally().held_bytes <= held_bytes_max, "law 7");
        reader.read(4 * BLOCK_BYTES);
        drop((reader, sender, others.map(|other| other.join().expect("it ends"))));
        assert_nothing_left(&room);
    });
}

/// Laws 1, **one order**, and 5, **echo is receipt**. Both are in the way of both, and wait for their turns: a parked
/// sender still reads, and its own echo frees it, too.
#[test]
fn parked_senders_still_read() {
    model(Some(3), || {
        let room = room();
        let [one, two] = ["1", "2"].map(|who| Peer::enter(&room, who));
        let mut sender = Peer::enter_mute(&room, "s");
        for _ in 0..2 {
            sender.say(&block(&room)).expect("the room is open");
        }
        let talk = |mut peer: Peer, line: &'static str, bytes: usize| {
            let mut said = false;
            wait(|cx| {
                loop {
                    assert!(peer.poll_read(cx).is_pending());
                    if peer.seen.len() == bytes {
                        return Poll::Ready(());
                    }
                    if said || peer.poll_say(line, cx).is_pending() {
                        return Poll::Pending;
                    }
                    said = true;
                }
            });
            peer
        };
        let bytes = "s joined\n".len() + 2 * BLOCK_BYTES + 10;
        let other = thread::spawn(move || talk(two, "2: y\n", bytes));
        let one = talk(one, "1: x\n", "2 joined\n".len() + bytes);
        let two = other.join().expect("it ends");
        assert_eq!(one.seen["2 joined\n".len()..], two.seen, "law 1");
        drop((one, two, sender));
        assert_nothing_left(&room);
    });
}
