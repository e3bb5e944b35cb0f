//! Manual pages and completions of shells, which are made from the options and kept in `contrib/`: a test sees to it that they are current.
//!
//! They need no tool of their own: `UNISONO_WRITE_PAPERS=1 cargo test --bin unisono papers` writes them anew.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use super::CommandLine;

/// All of them, by their places in `contrib/`.
fn papers() -> BTreeMap<PathBuf, Vec<u8>> {
    let mut command = CommandLine::command().disable_help_subcommand(true);
    command.build();
    let mut papers = BTreeMap::new();
    add_pages(&command, "unisono", &mut papers);
    for (shell, name) in [(Shell::Bash, "unisono.bash"), (Shell::Zsh, "_unisono"), (Shell::Fish, "unisono.fish")] {
        let mut text = Vec::new();
        generate(shell, &mut CommandLine::command(), "unisono", &mut text);
        papers.insert(Path::new("completions").join(name), text);
    }
    papers
}

/// A page for the command, and one for each that it has.
fn add_pages(command: &Command, name: &str, papers: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let mut text = Vec::new();
    let page = Man::new(command.clone().name(name.to_owned())).manual("unisono");
    page.render(&mut text).expect("a vector takes everything");
    papers.insert(Path::new("man").join(format!("{name}.1")), text);
    for command in command.get_subcommands() {
        add_pages(command, &format!("{name}-{}", command.get_name()), papers);
    }
}

#[test]
fn papers_are_current() {
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib");
    let papers = papers();
    if std::env::var_os("UNISONO_WRITE_PAPERS").is_some() {
        for (place, text) in &papers {
            let path = contrib.join(place);
            fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("it can be made");
            fs::write(path, text).expect("it can be written");
        }
    }
    for (place, text) in &papers {
        let kept = fs::read(contrib.join(place)).unwrap_or_default();
        assert!(
            kept == *text,
            "contrib/{} is not current: UNISONO_WRITE_PAPERS=1 cargo test --bin unisono papers",
            place.display()
        );
    }
    for folder in ["man", "completions"] {
        for entry in fs::read_dir(contrib.join(folder)).expect("it is there") {
            let place = Path::new(folder).join(entry.expect("it can be read").file_name());
            assert!(papers.contains_key(&place), "contrib/{} is made from nothing any more", place.display());
        }
    }
}
