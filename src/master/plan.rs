//! What a configuration means for the process: whom the worker becomes, how many loops and connections it has.

use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::{At, Location, Model, Process};
use crate::report::{self, ReportLevel, ReportLine};
use crate::sys::limits::{self, Carried, Raise};
use crate::sys::privileges::{self, Ids, NOBODY};
use crate::sys::reason;

/// Below this many connections an unset `maxconn` is worth a warning: the descriptor limit is that of a login shell.
const CONNECTIONS_FEW: u32 = 1000;

/// What a worker is from its start to its end. A configuration that asks for something else takes another worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whom the worker becomes.
    pub ids: Ids,
    /// Its event loops.
    pub loops: u16,
}

impl Plan {
    /// Settles `user`, `group` and `nbthread` for a master that runs as `current`.
    ///
    /// # Errors
    /// No such user or group, the worker would be root, or only root can become that user.
    pub fn settle(process: &Process, current: Ids, report: &mut Vec<ReportLine>) -> Result<Self, Box<Diagnostic>> {
        let ids = worker_ids(process, current, report)?;
        let cpus = u16::try_from(limits::cpus()).unwrap_or(u16::MAX);
        let loops = process.threads.as_ref().map_or(cpus, |threads| threads.value).max(1);
        Ok(Self { ids, loops })
    }
}

fn worker_ids(process: &Process, current: Ids, report: &mut Vec<ReportLine>) -> Result<Ids, Box<Diagnostic>> {
    let refuse = |at: &Location, reason: String| Box::new(Diagnostic::error("E604", at, reason));
    let look_up =
        |named: &At<String>, found: std::io::Result<u32>| found.map_err(|error| refuse(&named.at, reason(&error)));
    let user = process
        .user
        .as_ref()
        .map(|named| privileges::find_user(&named.value).map_err(|error| refuse(&named.at, reason(&error))));
    let user = user.transpose()?;
    let group = process.group.as_ref().map(|named| look_up(named, privileges::find_group(&named.value)));
    let group = group.transpose()?;

    let ids = match (user, current.uid) {
        (Some((uid, own_group)), _) => Ids { uid, gid: group.or(own_group).unwrap_or(NOBODY.gid) },
        (None, 0) => {
            let text = "no 'user' in 'global': the worker runs as nobody (65534)";
            report.push(ReportLine::new(ReportLevel::Notice, text));
            Ids { gid: group.unwrap_or(NOBODY.gid), ..NOBODY }
        }
        (None, uid) => Ids { uid, gid: group.unwrap_or(current.gid) },
    };
    let at = process.user.as_ref().or(process.group.as_ref()).map(|named| &named.at);
    if let Some(at) = at {
        if ids.uid == 0 {
            let root = Diagnostic::error("E604", at, "the worker must not be root");
            return Err(Box::new(
                root.help("name an unprivileged user; the master reads keys and binds ports with its own rights"),
            ));
        }
        if current.uid != 0 && ids != current {
            let Ids { uid, gid } = ids;
            let others = Diagnostic::error("E604", at, format!("only root can become user {uid} and group {gid}"));
            return Err(Box::new(others.help("remove 'user' and 'group', or start as root")));
        }
    }
    Ok(ids)
}

/// More connections than the descriptor limit carries, by who asked for them.
#[derive(Debug, PartialEq, Eq)]
pub enum TooMany {
    /// `maxconn` of `global`.
    Configured(Box<Diagnostic>),
    /// `-n`: why.
    CommandLine(String),
    /// Nobody; not even one is carried.
    None(String),
}

impl TooMany {
    /// For the operator.
    pub fn report(self, sources: &[(String, Vec<u8>)]) -> Vec<ReportLine> {
        match self {
            Self::Configured(diagnostic) => report::render(&[*diagnostic], sources),
            Self::None(reason) => vec![ReportLine::new(ReportLevel::Error, reason)],
            Self::CommandLine(reason) => vec![ReportLine::new(ReportLevel::Error, format!("-n: {reason}"))],
        }
    }
}

/// Connections of the process for `listeners` sockets: `asked` (`-n`) or `maxconn`, if the descriptor limit carries them; else as
/// many as it carries.
///
/// # Errors
/// More were asked for than the descriptor limit can be raised to.
pub fn connections(
    model: &Model,
    asked: Option<u32>,
    listeners: usize,
    raise: Raise,
    report: &mut Vec<ReportLine>,
) -> Result<u32, TooMany> {
    let configured = model.process.maxconn.as_ref();
    let wanted = asked.or(configured.map(|maxconn| maxconn.value)).filter(|&wanted| wanted > 0);
    let at = configured.filter(|_| asked.is_none()).map(|maxconn| &maxconn.at);
    let refuse = |reason: String| match at {
        Some(at) => TooMany::Configured(Box::new(Diagnostic::error("E606", at, reason))),
        None => TooMany::CommandLine(reason),
    };
    let carried = limits::make_room(wanted, listeners, raise)
        .map_err(|error| refuse(format!("cannot read the limit of open descriptors: {}", reason(&error))))?;
    match carried {
        Carried::Connections(0) => Err(TooMany::None(format!(
            "the limit of open descriptors carries no connection: raise it (ulimit -n, LimitNOFILE=) to {} at least",
            limits::descriptors_needed(1, listeners)
        ))),
        Carried::Connections(connections) => {
            if wanted.is_none() && connections < CONNECTIONS_FEW {
                let text = format!(
                    "without 'maxconn', the limit of open descriptors (ulimit -n, LimitNOFILE=) allows only \
                     {connections} connections"
                );
                report.push(ReportLine::new(ReportLevel::Warning, text));
            }
            Ok(connections)
        }
        Carried::TooMany { needed, limit, fit } => {
            let wanted = wanted.unwrap_or_default();
            Err(refuse(format!(
                "{wanted} connections need {needed} open descriptors and the limit is {limit}: raise it (ulimit -Hn, LimitNOFILE=) \
                 or lower maxconn to {fit}"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Ids = Ids { uid: 0, gid: 0 };
    const ALICE: Ids = Ids { uid: 1000, gid: 1000 };

    fn process(user: Option<&str>, group: Option<&str>) -> Process {
        let at =
            |name: &str| At { value: name.to_owned(), at: Location { file: "test.cfg".into(), line: 2, column: 8 } };
        Process { user: user.map(at), group: group.map(at), ..Process::default() }
    }

    fn settle(user: Option<&str>, group: Option<&str>, current: Ids) -> Result<Ids, String> {
        let plan = Plan::settle(&process(user, group), current, &mut Vec::new());
        plan.map(|plan| plan.ids).map_err(|diagnostic| diagnostic.message)
    }

    #[test]
    fn root_without_user_becomes_nobody_and_says_so() {
        let mut report = Vec::new();
        let plan = Plan::settle(&process(None, None), ROOT, &mut report).unwrap();
        assert_eq!((plan.ids, report.len()), (NOBODY, 1));
        assert!(plan.loops >= 1);
    }

    #[test]
    fn the_worker_is_never_root() {
        assert!(settle(Some("root"), None, ROOT).unwrap_err().contains("must not be root"));
        assert!(settle(Some("0"), Some("65534"), ROOT).unwrap_err().contains("must not be root"));
        assert!(settle(Some("0"), None, ALICE).is_err());
    }

    #[test]
    fn root_becomes_whom_it_is_told() {
        assert_eq!(settle(Some("1234"), Some("4321"), ROOT), Ok(Ids { uid: 1234, gid: 4321 }));
        assert_eq!(settle(None, Some("4321"), ROOT), Ok(Ids { gid: 4321, ..NOBODY }));
        // The group of root is not kept for a user that has none.
        assert_eq!(settle(Some("3999999999"), None, ROOT), Ok(Ids { uid: 3_999_999_999, gid: NOBODY.gid }));
    }

    #[test]
    fn others_can_only_stay_who_they_are() {
        assert_eq!(settle(None, None, ALICE), Ok(ALICE));
        assert_eq!(settle(Some("1000"), Some("1000"), ALICE), Ok(ALICE));
        assert!(settle(Some("1001"), Some("1000"), ALICE).unwrap_err().contains("only root"));
        assert!(settle(None, Some("1001"), ALICE).unwrap_err().contains("only root"));
    }

    #[test]
    fn unknown_names_are_named() {
        assert!(settle(Some("no-such-user-here"), None, ROOT).unwrap_err().contains("no-such-user-here"));
        assert!(settle(None, Some("no-such-group-here"), ROOT).unwrap_err().contains("no-such-group-here"));
    }

    #[test]
    fn too_many_connections_are_refused_where_they_are_asked_for() {
        let mut model = Model::default();
        let refused = |model: &Model, asked| {
            let too_many = connections(model, asked, 1, Raise::Soft, &mut Vec::new()).unwrap_err();
            too_many.report(&[]).remove(0).text
        };
        let text = refused(&model, Some(u32::MAX));
        assert!(text.starts_with("error: -n: 4294967295 connections need"), "{text}");
        let at = Location { file: "test.cfg".into(), line: 2, column: 8 };
        model.process.maxconn = Some(At { value: u32::MAX, at });
        let text = refused(&model, None);
        assert!(text.starts_with("test.cfg:2:8: error[E606]: 4294967295 connections need"), "{text}");
        assert_eq!(connections(&model, Some(10), 1, Raise::Soft, &mut Vec::new()), Ok(10));
    }
}
