//! Law 8, **no lost wake**: whatever moves the head past a parked reader wakes it.
//!
//! The race: a reader finds nothing and parks while a sender appends. If parking and looking were two steps, the line could
//! come between them and nobody would wake the reader; the model would end in a deadlock.
#![cfg(loom)]

use std::future::poll_fn;
use std::io::IoSlice;
use std::task::{Context, Poll};

use loom::future::block_on;
use loom::thread;
use unisono::limits::WRITE_PIECES_MAX;
use unisono::log::Batch;
use unisono::room::{Member, Next};
use unisono::{Lang, Limits, Room, Wire};

fn room() -> Room {
    let limits = Limits { line_bytes_max: 8, backlog_bytes: 2000, ..Limits::default() };
    Room::new(limits, Wire { lang: Lang::En, ..Wire::default() }).expect("limits that work")
}

fn enter(room: &Room, who: &str) -> Member {
    let mut member = room.seat(who);
    let mut turn = block_on(poll_fn(|cx| member.poll_turn(cx))).expect("the room is open");
    member.enter(&mut turn).expect("the room is open");
    member
}

fn say(member: &mut Member, line: &str) {
    let mut turn = block_on(poll_fn(|cx| member.poll_turn(cx))).expect("the room is open");
    member.say(&mut turn, line.as_bytes()).expect("the room is open");
}

/// Reads until `bytes` came.
fn read(member: &mut Member, bytes: usize) -> String {
    let mut seen = Vec::new();
    let mut taken = 0;
    block_on(poll_fn(|cx: &mut Context<'_>| {
        while seen.len() < bytes {
            let mut batch = Batch::default();
            match member.poll_next(std::mem::take(&mut taken), &mut batch, cx) {
                Poll::Ready(Next::Lines) => {
                    let mut slices = [IoSlice::new(&[]); WRITE_PIECES_MAX];
                    let count = batch.io_slices(&mut slices);
                    slices[..count].iter().for_each(|slice| seen.extend_from_slice(slice));
                    taken = batch.bytes();
                }
                Poll::Ready(end) => panic!("{end:?} before all was read"),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }));
    String::from_utf8(seen).expect("lines in English")
}

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(3));
    builder.check(check);
}

#[test]
fn reader_parked_at_the_head_sees_the_next_line() {
    model(|| {
        let room = room();
        let mut reader = enter(&room, "r");
        let sender = {
            let room = room.clone();
            thread::spawn(move || {
                let mut sender = enter(&room, "s");
                say(&mut sender, "s: x\n");
            })
        };
        assert_eq!(read(&mut reader, 21), "s joined\ns: x\ns left\n");
        sender.join().expect("it ends");
    });
}
