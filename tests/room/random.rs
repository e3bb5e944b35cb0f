//! The oracle driven by random steps: long ways, many members, every length of line and of read.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use unisono::Limits;

use crate::world::{NAMES, Op, Take, World};

const SEATS: usize = 6;

/// A backlog that some thirty lines fill.
fn limits(patience: Duration, prompt_bytes: usize, announcements: Option<usize>) -> Limits {
    Limits { line_bytes_max: 60, backlog_bytes: 1500, prompt_bytes, patience, announcements, ..Limits::default() }
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..SEATS;
    let take = prop_oneof![1 => Just(Take::All), 1 => Just(Take::AllAndOn), 3 => (0..400usize).prop_map(Take::Bytes)];
    prop_oneof![
        300 => Just(Op::Enter),
        100 => Just(Op::EnterTrusted),
        100 => Just(Op::AwaitSpent),
        150 => Just(Op::TurnPeriod),
        1000 => (who.clone(), 1..4usize, 0..60usize).prop_map(|(who, lines, letters)| Op::Say { who, lines, letters }),
        200 => (who.clone(), 0..NAMES.len()).prop_map(|(who, name)| Op::Rename { who, name }),
        200 => who.clone().prop_map(|who| Op::Hold { who }),
        300 => who.clone().prop_map(|who| Op::Retry { who }),
        50 => who.clone().prop_map(|who| Op::GiveUp { who }),
        100 => who.clone().prop_map(|who| Op::DropTurn { who }),
        1200 => (who.clone(), take).prop_map(|(who, take)| Op::Read { who, take }),
        400 => who.clone().prop_map(|who| Op::Block { who }),
        400 => who.clone().prop_map(|who| Op::LetGo { who }),
        100 => who.clone().prop_map(|who| Op::PlaceEnd { who }),
        100 => who.clone().prop_map(|who| Op::Leave { who }),
        50 => who.clone().prop_map(|who| Op::StopReading { who }),
        50 => who.prop_map(|who| Op::Remove { who }),
        // One letter more than a line may have.
        200 => (0..62usize).prop_map(|letters| Op::Announce { letters }),
        100 => Just(Op::RetryAnnounce),
        20 => Just(Op::GiveUpAnnounce),
        50 => Just(Op::AwaitEmpty),
        3 => Just(Op::Close),
    ]
}

proptest! {
    // What once failed is tried first, always.
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/room/regressions.txt"))),
        ..ProptestConfig::with_cases(1000)
    })]

    #[test]
    fn room_is_the_list_of_all_lines(
        ops in proptest::collection::vec(op(), 1..250),
        patience in prop_oneof![3 => Just(Limits::default().patience), 1 => Just(Duration::ZERO)],
        prompt_bytes in prop_oneof![Just(0), Just(100)],
        announcements in prop_oneof![2 => Just(None), 3 => (0..4usize).prop_map(Some)],
    ) {
        let mut world = World::new(limits(patience, prompt_bytes, announcements), SEATS);
        for op in ops {
            world.apply(op)?;
        }
        world.quiesce()?;
        world.end()?;
    }
}
