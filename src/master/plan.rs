//! What a configuration means for the process: whom the worker becomes, how many loops and connections it has.

use crate::conf::diagnostic::Diagnostic;
use crate::conf::model::{At, Chroot, Location, Model, Process, TcpOptions};
use crate::report::{self, ReportLevel, ReportLine};
use crate::sys::limits::{self, Carried, DESCRIPTORS_CEILING, Raise};
use crate::sys::privileges::{self, CAP_SYS_CHROOT, Ids, NOBODY};
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
    /// CPUs of each event loop; empty: wherever the process may run.
    pub cpus: Vec<Vec<u16>>,
    /// Most descriptors that it uses.
    pub descriptors: u64,
    /// Its root directory; `None`: that of the system.
    pub chroot: Option<Chroot>,
}

impl Plan {
    /// Settles `user`, `group`, `nbthread`, `cpu-map` and limits of descriptors for a master that runs as `current`.
    ///
    /// # Errors
    /// No such user, group or directory, the worker would be root, only root can become that user, nobody here may change the
    /// root directory, or a thread has no CPU.
    pub fn settle(process: &Process, current: Ids, report: &mut Vec<ReportLine>) -> Result<Self, Box<Diagnostic>> {
        let ids = worker_ids(process, current, report)?;
        let available = limits::cpu_numbers();
        let loops = loops(process, &available, report);
        let cpus = cpus(process, loops, &available, report)?;
        let most = process.descriptors_max.map_or(DESCRIPTORS_CEILING, u64::from);
        let descriptors = process.descriptors.as_ref().map_or(most, |number| most.min(number.value.into()));
        let may_change_root = current.uid == 0 || privileges::has_capability(CAP_SYS_CHROOT);
        let chroot = process.chroot.as_ref().map(|chroot| check_root(chroot, may_change_root)).transpose()?;
        Ok(Self { ids, loops, cpus, descriptors, chroot })
    }
}

fn check_root(chroot: &At<Chroot>, may_change: bool) -> Result<Chroot, Box<Diagnostic>> {
    let refuse = |message: String| Diagnostic::error("E604", &chroot.at, message);
    if !may_change {
        let refused = refuse("only root or who has CAP_SYS_CHROOT can change the root directory".to_owned());
        let help = "remove 'chroot', for the worker opens no file either way, or put 'AmbientCapabilities=CAP_SYS_CHROOT', \
                    'CapabilityBoundingSet=CAP_SYS_CHROOT' and 'SystemCallFilter=chroot' into a drop-in of the unit";
        return Err(Box::new(refused.help(help)));
    }
    match &chroot.value {
        Chroot::Directory(path) if !path.is_dir() => {
            Err(Box::new(refuse(format!("'{}' is no directory", path.display()))))
        }
        chroot => Ok(chroot.clone()),
    }
}

/// `nbthread`, or one for each CPU, and `thread-hard-limit`.
fn loops(process: &Process, available: &[u16], report: &mut Vec<ReportLine>) -> u16 {
    let cpus = u16::try_from(available.len()).unwrap_or(u16::MAX).max(1);
    let Some(threads) = &process.threads else {
        return process.threads_max.map_or(cpus, |most| most.min(cpus));
    };
    match process.threads_max {
        Some(most) if most < threads.value => {
            let text = format!("'nbthread {}' is above 'thread-hard-limit': there are {most} threads", threads.value);
            report.push(ReportLine::new(ReportLevel::Warning, text));
            most
        }
        _ => threads.value.max(1),
    }
}

/// `cpu-map`, for the threads that there are.
fn cpus(
    process: &Process,
    loops: u16,
    available: &[u16],
    report: &mut Vec<ReportLine>,
) -> Result<Vec<Vec<u16>>, Box<Diagnostic>> {
    let mut cpus = vec![Vec::new(); loops.into()];
    for (thread, wanted) in &process.cpu_map {
        let Some(place) = cpus.get_mut(usize::from(*thread) - 1) else { continue };
        *place = wanted.value.iter().copied().filter(|cpu| available.contains(cpu)).collect();
        if place.is_empty() {
            let message = format!("'cpu-map' leaves thread {thread} no CPU that this process may use");
            let help = format!("it may use: {}", available.iter().map(u16::to_string).collect::<Vec<_>>().join(" "));
            return Err(Box::new(Diagnostic::error("E607", &wanted.at, message).help(help)));
        }
    }
    if !process.cpu_map.is_empty() && cpus.iter().all(Vec::is_empty) {
        let text = format!("'cpu-map' is about threads that are not there: there are {loops}");
        report.push(ReportLine::new(ReportLevel::Warning, text));
    }
    Ok(cpus)
}

/// Makes room for `ulimit-n`, which processes started afterwards inherit. Less than there is, only the worker takes (see
/// [`Plan::descriptors`]).
///
/// # Errors
/// The system does not allow it.
pub fn limit_descriptors(process: &Process, report: &mut Vec<ReportLine>) -> Result<(), Box<Diagnostic>> {
    let Some(At { value, at }) = &process.descriptors else { return Ok(()) };
    let Err(error) = limits::allow_descriptors((*value).into()) else { return Ok(()) };
    let message = format!("'ulimit-n {value}': {}", reason(&error));
    let help = "raise the hard limit (ulimit -Hn, LimitNOFILE=), or leave 'ulimit-n' out";
    if process.lenient_limits {
        report.push(ReportLine::new(ReportLevel::Warning, message));
        return Ok(());
    }
    Err(Box::new(Diagnostic::error("E606", at, message).help(help)))
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
    (raise, most): (Raise, u64),
    report: &mut Vec<ReportLine>,
) -> Result<u32, TooMany> {
    let configured = model.process.maxconn.as_ref();
    let wanted = asked.or(configured.map(|maxconn| maxconn.value)).filter(|&wanted| wanted > 0);
    let at = configured.filter(|_| asked.is_none()).map(|maxconn| &maxconn.at);
    let refuse = |reason: String| match at {
        Some(at) => TooMany::Configured(Box::new(Diagnostic::error("E606", at, reason))),
        None => TooMany::CommandLine(reason),
    };
    let carried = limits::make_room(wanted, listeners, raise, most)
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
            if model.process.lenient_limits && fit > 0 {
                let text = format!(
                    "{wanted} connections need {needed} open descriptors and the limit is {limit}: there are {fit} connections at most"
                );
                report.push(ReportLine::new(ReportLevel::Warning, text));
                return Ok(fit);
            }
            Err(refuse(format!(
                "{wanted} connections need {needed} open descriptors and the limit is {limit}: raise it (ulimit -Hn, LimitNOFILE=) \
                 or lower maxconn to {fit}"
            )))
        }
    }
}

/// What the system makes of options of sockets, where it would not say: buffers that are cut (socket(7)), and algorithms that
/// the worker may not choose (tcp(7)).
///
/// A warning for each; an algorithm is an error.
pub fn socket_limits(model: &Model) -> Vec<Diagnostic> {
    let number = |name: &str| std::fs::read_to_string(name).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let caps = (number("/proc/sys/net/core/rmem_max"), number("/proc/sys/net/core/wmem_max"));
    let allowed = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control").ok();
    let mut found = Vec::new();
    let mut buffers = |side: &str, tcp: &TcpOptions, at: &Location| {
        for (word, name, wanted, cap) in
            [("rcvbuf", "rmem_max", tcp.receive_buffer, caps.0), ("sndbuf", "wmem_max", tcp.send_buffer, caps.1)]
        {
            if let (Some(wanted), Some(cap)) = (wanted, cap.filter(|cap| Some(*cap) < wanted)) {
                let message = format!("'tune.{word}.{side} {wanted}': the system allows {cap} bytes (net.core.{name})");
                found.push(Diagnostic::warning("W612", at, message));
            }
        }
    };
    if let Some(bind) = model.frontends.iter().flat_map(|frontend| &frontend.binds).next() {
        buffers("client", &bind.socket.tcp, &bind.at);
    }
    let mut servers = model.backends.iter().flat_map(|backend| &backend.servers).peekable();
    if let Some(server) = servers.peek() {
        buffers("server", &server.tcp, &server.at);
    }
    for server in servers {
        let (Some(name), Some(allowed)) = (&server.tcp.congestion, &allowed) else { continue };
        if !allowed.split_whitespace().any(|one| one == name) {
            let message =
                format!("'cc {name}' is not among the algorithms that any user may choose: {}", allowed.trim());
            let error = Diagnostic::error("E608", &server.at, message);
            found.push(error.help("add it to net.ipv4.tcp_allowed_congestion_control (sysctl)"));
        }
    }
    found
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
    fn threads_have_a_limit_and_cpus() {
        let at = Location { file: "test.cfg".into(), line: 2, column: 8 };
        let cpu = limits::cpu_numbers()[0];
        let mut process = process(None, None);
        process.threads = Some(At { value: 4, at: at.clone() });
        process.threads_max = Some(2);
        let map = |cpu| At { value: [cpu].into(), at: at.clone() };
        process.cpu_map = [(1, map(cpu)), (3, map(1023))].into();
        let mut report = Vec::new();
        let plan = Plan::settle(&process, ALICE, &mut report).unwrap();
        assert_eq!((plan.loops, plan.cpus), (2, vec![vec![cpu], vec![]]), "there is no third thread");
        assert!(report[0].text.contains("'nbthread 4' is above 'thread-hard-limit'"), "{}", report[0].text);

        process.cpu_map = [(2, map(1023))].into();
        let error = Plan::settle(&process, ALICE, &mut report).unwrap_err();
        assert_eq!((error.code, error.at.line), ("E607", 2));
        process.cpu_map = [(7, map(cpu))].into();
        Plan::settle(&process, ALICE, &mut report).unwrap();
        assert!(report.last().unwrap().text.contains("threads that are not there"));
    }

    #[test]
    fn descriptors_have_a_limit() {
        let at = Location { file: "test.cfg".into(), line: 2, column: 8 };
        let mut process = process(None, None);
        let most = |process: &Process| Plan::settle(process, ALICE, &mut Vec::new()).unwrap().descriptors;
        assert_eq!(most(&process), DESCRIPTORS_CEILING);
        process.descriptors_max = Some(5000);
        assert_eq!(most(&process), 5000);
        process.descriptors = Some(At { value: 3000, at });
        assert_eq!(most(&process), 3000);
    }

    #[test]
    fn the_root_directory_is_there_and_not_everybody_changes_it() {
        let check = |chroot: Chroot, may_change: bool| {
            let at = Location { file: "test.cfg".into(), line: 2, column: 8 };
            check_root(&At { value: chroot, at }, may_change).map_err(|error| error.message)
        };
        let folder = tempfile::tempdir().unwrap();
        let there = Chroot::Directory(folder.path().to_owned());
        assert_eq!(check(there.clone(), true), Ok(there.clone()));
        assert_eq!(check(Chroot::Empty, true), Ok(Chroot::Empty));
        assert!(check(there, false).unwrap_err().contains("CAP_SYS_CHROOT"));
        let missing = Chroot::Directory(folder.path().join("missing"));
        assert!(check(missing, true).unwrap_err().contains("is no directory"));
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
            let too_many = connections(model, asked, 1, (Raise::Soft, u64::MAX), &mut Vec::new()).unwrap_err();
            too_many.report(&[]).remove(0).text
        };
        let text = refused(&model, Some(u32::MAX));
        assert!(text.starts_with("error: -n: 4294967295 connections need"), "{text}");
        let at = Location { file: "test.cfg".into(), line: 2, column: 8 };
        model.process.maxconn = Some(At { value: u32::MAX, at });
        let text = refused(&model, None);
        assert!(text.starts_with("test.cfg:2:8: error[E606]: 4294967295 connections need"), "{text}");
        assert_eq!(connections(&model, Some(10), 1, (Raise::Soft, u64::MAX), &mut Vec::new()), Ok(10));
        model.process.lenient_limits = true;
        let mut report = Vec::new();
        assert_eq!(connections(&model, Some(51), 0, (Raise::Soft, 164), &mut report), Ok(50));
        assert!(report[0].text.contains("there are 50 connections at most"), "{}", report[0].text);
    }
}
