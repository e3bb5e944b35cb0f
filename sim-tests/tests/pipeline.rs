//! A search that finds nothing says something only if it would have found something. Here the network loses a line, which no
//! network may; so this search has to fail, and all that comes of a failure has to come of it.
#![cfg(not(loom))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sim_tests::capsule::Capsule;

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim-tests")).args(arguments).output().expect("the binary was built for this test")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An empty directory.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _absent = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("the directory for tests can be written");
    path
}

#[test]
fn canary_is_found_shrunk_and_kept() {
    let kept = directory("canary");
    let folder = kept.to_str().expect("a plain path");
    let found = simulate(&["--canary", "--seeds", "0..100", "--until-failure", "--shrink", "--capsules", folder]);
    let said = stdout(&found);
    assert_eq!(found.status.code(), Some(1), "{said}");
    assert!(said.contains("replay: cargo run -p sim-tests --release -- --seed"), "{said}");

    let files: Vec<PathBuf> =
        fs::read_dir(&kept).expect("it is there").map(|entry| entry.expect("it can be read").path()).collect();
    let capsule = Capsule::load(&files[0]).expect("a capsule");
    assert!(capsule.plan.acts.len() <= 8, "{} actions", capsule.plan.acts.len());
    assert!(capsule.actions_before > capsule.actions_after, "{said}");

    let page = kept.join("page.html");
    let again = simulate(&[
        "--capsule",
        files[0].to_str().expect("a plain path"),
        "--html",
        page.to_str().expect("a plain path"),
    ]);
    assert_eq!(again.status.code(), Some(1));
    let invariant = capsule.law.rsplit(": ").next().expect("a name");
    assert!(String::from_utf8_lossy(&again.stderr).contains(invariant), "the replay breaks the same");
    assert!(stdout(&again).contains(&format!("trace {}", capsule.trace)), "and nothing else has happened");
    assert!(fs::read_to_string(page).expect("it was drawn").contains(invariant));
}

#[test]
fn good_seeds_succeed_and_bad_requests_say_why() {
    let good = simulate(&["--seeds", "0..20"]);
    assert_eq!(good.status.code(), Some(0), "{}", stdout(&good));
    assert!(stdout(&good).contains("20 seeds from 0"), "{}", stdout(&good));

    for (arguments, why) in [
        (&["--seeds", "5"][..], "a range of seeds is written A..B"),
        (&["--seeds", "5..5"][..], "there are no seeds in it"),
        (&["--scenario", "ordre"][..], "there are order, brackets"),
        (&["--capsule", "/nowhere"][..], "capsule /nowhere: "),
        (&["--seed", "1", "--minutes", "2"][..], "cannot be used with"),
    ] {
        let refused = simulate(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(why), "{arguments:?}");
    }
}
