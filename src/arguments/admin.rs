//! The options of `unisono admin`, and the request that they make.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to ask for, and where.
#[derive(Debug, PartialEq)]
pub(crate) struct Administer {
    pub(crate) socket: PathBuf,
    /// One line, without its line end.
    pub(crate) request: String,
}

pub(super) const ADMIN_HELP: &str = "\
CIDR is an address or a prefix, as 192.0.2.7 or fd00::/8; WHO is what `who` shows; TIME is as 30s, 5min, 1h.

The server answers root and its own user, where its --admin says. Exit codes: 0 done, 1 the server did not do it or is not there, \
2 bad options.";

#[derive(Args, Debug)]
pub(super) struct AdminWords {
    /// The socket of the server, as of its --admin
    #[arg(long, value_name = "PATH", default_value = "/run/unisono/admin.sock")]
    #[arg(env = "UNISONO_SOCKET", hide_env = true)]
    socket: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show who is there, and from where
    Who,
    /// End a member's connection
    Kick {
        #[arg(value_name = "WHO", value_parser = word)]
        who: String,
    },
    /// Let in nobody from there, and end who is there from there
    Ban {
        #[arg(value_name = "CIDR|WHO", value_parser = word)]
        whom: String,
        /// How long [default: until it is lifted or the server ends]
        #[arg(long = "for", value_name = "TIME", value_parser = word)]
        lasts: Option<String>,
    },
    /// Lift a ban
    Unban {
        #[arg(value_name = "CIDR", value_parser = word)]
        prefix: String,
    },
    /// Show the bans, and how long each lasts still
    Bans,
    /// Say something to all
    Notice {
        #[arg(value_name = "TEXT", required = true, value_parser = text)]
        text: Vec<String>,
    },
    /// Let in nobody more, and end when all have left
    Drain {
        /// How long it may take at most [default: as long as it takes]
        #[arg(long = "for", value_name = "TIME", value_parser = word)]
        lasts: Option<String>,
    },
    /// Show numbers of the server
    Stats,
}

pub(super) fn meaning(AdminWords { socket, what }: AdminWords) -> Administer {
    let lasting = |lasts: Option<String>| lasts.map_or_else(String::new, |lasts| format!(" for {lasts}"));
    let request = match what {
        What::Who => "who".to_owned(),
        What::Kick { who } => format!("kick {who}"),
        What::Ban { whom, lasts } => format!("ban {whom}{}", lasting(lasts)),
        What::Unban { prefix } => format!("unban {prefix}"),
        What::Bans => "bans".to_owned(),
        What::Notice { text } => format!("notice {}", text.join(" ")),
        What::Drain { lasts } => format!("drain{}", lasting(lasts)),
        What::Stats => "stats".to_owned(),
    };
    Administer { socket, request }
}

fn word(word: &str) -> Result<String, String> {
    if word.is_empty() || word.contains(char::is_whitespace) {
        return Err("it must be one word".into());
    }
    Ok(word.into())
}

fn text(text: &str) -> Result<String, String> {
    if text.contains('\n') { Err("it must be one line".into()) } else { Ok(text.into()) }
}
