//! Laws 4, **brackets**, and 8, **no lost wake**, where strangers are counted: nobody is lost from a count or stands in two, who
//! speaks is told of by name before, and the announcer wakes for what is spent.
#![cfg(loom)]

use std::sync::Arc;

use loom::thread;
use loom_tests::{Peer, Task, assert_nothing_left, crowded_room, model, wait_by};
use unisono::Room;
use unisono::room::Closed;

/// Waits until something is spent, and ends the period if the room is open.
fn announce(room: &Room, task: &Arc<Task>) -> Result<(), Closed> {
    wait_by(task, |cx| room.poll_spent(cx))?;
    room.turn_period();
    Ok(())
}

/// Saying against the end of a period: the count has who speaks and it is here, or it comes by name and no count has it.
#[test]
fn one_who_speaks_as_its_count_is_told_is_told_of_once() {
    model(None, || {
        let room = crowded_room(0);
        let mut witness = Peer::enter(&room, "w");
        let mut stranger = Peer::enter_stranger(&room, "s");
        let turning = {
            let room = room.clone();
            thread::spawn(move || room.turn_period())
        };
        stranger.say("s: x\n").expect("the room is open");
        turning.join().expect("it ends");
        room.turn_period();
        let told = ["s joined\ns: x\n", "1 joined, 0 left\ns is here\ns: x\n"];
        let seen = witness.look();
        assert!(told.contains(&seen), "law 4: {seen}");
        drop((stranger, witness));
        assert_nothing_left(&room);
    });
}

/// Entering and leaving against the end of a period: each is in one count.
#[test]
fn those_who_come_and_go_as_a_count_is_told_are_each_in_one() {
    model(Some(3), || {
        let room = crowded_room(0);
        let mut witness = Peer::enter(&room, "w");
        let leaver = Peer::enter_stranger(&room, "l");
        let leaving = thread::spawn(move || drop(leaver));
        let entering = {
            let room = room.clone();
            thread::spawn(move || Peer::enter_stranger(&room, "n"))
        };
        room.turn_period();
        leaving.join().expect("it ends");
        let newcomer = entering.join().expect("it ends");
        room.turn_period();
        let told = [
            "2 joined, 1 left\n",
            "1 joined, 0 left\n1 joined, 1 left\n",
            "1 joined, 1 left\n1 joined, 0 left\n",
            "2 joined, 0 left\n0 joined, 1 left\n",
        ];
        let seen = witness.look();
        assert!(told.contains(&seen), "law 4: {seen}");
        drop((newcomer, witness));
        assert_nothing_left(&room);
    });
}

/// Parking against spending: an announcer that finds nothing spent is woken by whoever spends the first name.
#[test]
fn announcer_is_woken_by_who_spends_the_first_name() {
    model(None, || {
        let room = crowded_room(1);
        let mut witness = Peer::enter(&room, "w");
        let announcing = {
            let room = room.clone();
            thread::spawn(move || {
                let task = Arc::default();
                announce(&room, &task).expect("the room is open");
                task.assert_forgotten();
            })
        };
        // In the same period, or in two.
        let strangers = ["1", "2"].map(|who| Peer::enter_stranger(&room, who));
        announcing.join().expect("law 8: it is woken");
        room.turn_period();
        let told = ["1 joined\n1 joined, 0 left\n", "1 joined\n2 joined\n"];
        let seen = witness.look();
        assert!(told.contains(&seen), "law 4: {seen}");
        drop((strangers, witness));
        assert_nothing_left(&room);
    });
}

/// Parking against the end of the room: it finds it.
#[test]
fn close_wakes_the_announcer() {
    model(None, || {
        let room = crowded_room(1);
        let announcing = {
            let room = room.clone();
            thread::spawn(move || {
                let task = Arc::default();
                assert_eq!(announce(&room, &task), Err(Closed));
                task.assert_forgotten();
            })
        };
        room.close();
        announcing.join().expect("law 8: it is woken");
        assert_nothing_left(&room);
    });
}
