//! Waiting outside, as one does that is asked a password: law 8, **no lost wake** (it finds its end, or the room's), and law 9,
//! **nothing left behind** (nothing of it stays in the room, and nothing is meant for who comes in its place).
#![cfg(loom)]

use std::sync::Arc;
use std::task::{Context, Poll};

use loom::thread;
use loom_tests::{Task, assert_nothing_left, model, room, wait_watched};
use unisono::room::{Closed, Member, Whom};

/// Looks once, by the waker of `task`.
fn look(member: &mut Member, task: &Arc<Task>) -> Poll<Closed> {
    member.poll_outside(&mut Context::from_waker(&Arc::clone(task).into()))
}

/// Waits on another thread until there is nothing to wait for; returns what [`wait_watched`] does.
fn wait_outside(mut member: Member) -> thread::JoinHandle<(Member, bool, Arc<Task>)> {
    thread::spawn(move || {
        let (Closed, waited, task) = wait_watched(|cx| member.poll_outside(cx));
        (member, waited, task)
    })
}

/// Closing against waiting: one that waits already, and one that is about to.
#[test]
fn close_wakes_who_waits_outside() {
    model(None, || {
        let room = room();
        let mut before = room.seat("b");
        let task = Arc::<Task>::default();
        assert_eq!(look(&mut before, &task), Poll::Pending);
        let waiting = wait_outside(room.seat("n"));
        room.close();
        let (member, waited, waiter) = waiting.join().expect("law 8: it is woken");
        assert_eq!((waiter.wakes(), task.wakes()), (usize::from(waited), 1), "law 8: once");
        assert_eq!(look(&mut before, &task), Poll::Ready(Closed));
        [waiter, task].iter().for_each(Task::assert_forgotten);
        drop((member, before));
        assert_nothing_left(&room);
    });
}

/// Removing against waiting: whoever is meant finds that out, and nobody else.
#[test]
fn removed_while_it_waits_outside_finds_that_out() {
    model(None, || {
        let room = room();
        let mut other = room.seat("o");
        let task = Arc::<Task>::default();
        assert_eq!(look(&mut other, &task), Poll::Pending);
        let waiting = wait_outside(room.seat("n"));
        assert_eq!(room.remove(Whom::Who("n")), 1);
        let (member, waited, waiter) = waiting.join().expect("law 8: it is woken");
        assert!(member.is_removed());
        assert_eq!((waiter.wakes(), task.wakes()), (usize::from(waited), 0), "law 8: once, and nobody else");
        waiter.assert_forgotten();
        assert_eq!(look(&mut other, &task), Poll::Pending);
        drop((member, other));
        task.assert_forgotten();
        assert_nothing_left(&room);
    });
}

/// Removing against closing against waiting: it is woken once, by the first of them.
#[test]
fn removed_as_the_room_ends_is_woken_once() {
    model(None, || {
        let room = room();
        let waiting = wait_outside(room.seat("n"));
        let removing = {
            let room = room.clone();
            thread::spawn(move || room.remove(Whom::Who("n")))
        };
        room.close();
        let removed = removing.join().expect("it ends");
        let (member, waited, waiter) = waiting.join().expect("law 8: it is woken");
        assert_eq!(member.is_removed(), removed == 1, "law 4");
        assert_eq!(waiter.wakes(), usize::from(waited), "law 8: once");
        waiter.assert_forgotten();
        drop(member);
        assert_nothing_left(&room);
    });
}

/// Going against being removed, while another comes, by the same place perhaps: that one is not taken for it.
#[test]
fn who_comes_in_the_place_of_one_that_went_is_not_taken_for_it() {
    model(None, || {
        let room = room();
        let mut leaver = room.seat("l");
        let gone = Arc::<Task>::default();
        assert_eq!(look(&mut leaver, &gone), Poll::Pending);
        let leaving = thread::spawn(move || drop(leaver));
        let removing = {
            let room = room.clone();
            thread::spawn(move || room.remove(Whom::Who("l")))
        };
        let here = Arc::<Task>::default();
        let mut newcomer = room.seat("n");
        assert_eq!(look(&mut newcomer, &here), Poll::Pending, "law 4: it was not meant");
        leaving.join().expect("it ends");
        let removed = removing.join().expect("it ends");
        assert_eq!(gone.wakes(), removed, "law 8: once, if it was there");
        gone.assert_forgotten();
        assert_eq!((here.wakes(), look(&mut newcomer, &here)), (0, Poll::Pending));
        room.close();
        assert_eq!((here.wakes(), look(&mut newcomer, &here)), (1, Poll::Ready(Closed)), "law 8");
        drop(newcomer);
        here.assert_forgotten();
        assert_nothing_left(&room);
    });
}
