//! `show stat`, `show info`, `show servers state`, `show backend`: numbers, in the forms that scripts for HAProxy read
//! (management manual, 9.1 and 9.3). A column or a line that has no meaning here is empty or not there.

use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::command::Then;
use super::session::Session;
use crate::proto::wire::Target;
use crate::snapshot::{Backend, Bind, Frontend, Snapshot};
use crate::stats::labels::HandshakeKind;
use crate::stats::{FrontendTotals, Stats};
use crate::sys::limits;

/// The columns of HAProxy 2.6, in its order. Later versions have more between `agg_check_status` and `-`.
const COLUMNS: &str = "\
    pxname svname qcur qmax scur smax slim stot bin bout dreq dresp ereq econ eresp wretr wredis status weight act \
    bck chkfail chkdown lastchg downtime qlimit pid iid sid throttle lbtot tracked type rate rate_lim rate_max \
    check_status check_code check_duration hrsp_1xx hrsp_2xx hrsp_3xx hrsp_4xx hrsp_5xx hrsp_other hanafail req_rate \
    req_rate_max req_tot cli_abrt srv_abrt comp_in comp_out comp_byp comp_rsp lastsess last_chk last_agt qtime ctime \
    rtime ttime agent_status agent_code agent_duration check_desc agent_desc check_rise check_fall check_health \
    agent_rise agent_fall agent_health addr cookie mode algo conn_rate conn_rate_max conn_tot intercepted dcon dses \
    wrew connect reuse cache_lookups cache_hits srv_icur src_ilim qtime_max ctime_max rtime_max ttime_max eint \
    idle_conn_cur safe_conn_cur used_conn_cur need_conn_est uweight agg_server_status agg_server_check_status \
    agg_check_status - ssl_sess ssl_reused_sess ssl_failed_handshake h2_headers_rcvd h2_data_rcvd h2_settings_rcvd \
    h2_rst_stream_rcvd h2_goaway_rcvd h2_detected_conn_protocol_errors h2_detected_strm_protocol_errors \
    h2_rst_stream_resp h2_goaway_resp h2_open_connections h2_backend_open_streams h2_total_connections \
    h2_backend_total_streams h1_open_connections h1_open_streams h1_total_connections h1_total_streams h1_bytes_in \
    h1_bytes_out h1_spliced_bytes_in h1_spliced_bytes_out";

/// What a row is about: the numbers of the column `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Frontend = 0,
    Backend = 1,
    Server = 2,
    Listener = 3,
}

/// One row; what is not set is empty.
struct Row {
    section: u32,
    id: u32,
    kind: Kind,
    values: Vec<(&'static str, String)>,
}

impl Row {
    fn new(kind: Kind, section: (&str, u32), name: &str, id: u32) -> Self {
        let values = vec![("pxname", section.0.to_owned()), ("svname", name.to_owned())];
        let row = Self { section: section.1, id, kind, values };
        row.set("pid", 1).set("iid", section.1).set("sid", id).set("type", kind as u32).set("mode", "tcp")
    }

    fn set(mut self, column: &'static str, value: impl ToString) -> Self {
        debug_assert!(COLUMNS.split(' ').any(|known| known == column), "{column}");
        self.values.push((column, value.to_string()));
        self
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for column in COLUMNS.split(' ') {
            let value = match column {
                "-" => "-",
                _ => self.values.iter().find(|(name, _)| *name == column).map_or("", |(_, value)| value),
            };
            match value.contains([',', '"']) {
                true => write!(out, "\"{}\",", value.replace('"', "\"\""))?,
                false => write!(out, "{value},")?,
            }
        }
        writeln!(out)
    }
}

fn frontend_row(frontend: &Frontend, snapshot: &Snapshot) -> Row {
    let totals = frontend.counters.sum();
    Row::new(Kind::Frontend, (&frontend.name, frontend.number), "FRONTEND", 0)
        .set("scur", totals.active)
        .set("slim", frontend.maxconn.unwrap_or(snapshot.maxconn()))
        .set("stot", totals.accepted)
        .set("bin", totals.bytes_from_clients)
        .set("bout", totals.bytes_to_clients)
        .set("ereq", totals.proxy_failures.total() + totals.handshake_failures.total())
        .set("status", "OPEN")
        .set("conn_tot", totals.accepted)
        .set("dcon", totals.shed)
        .set("ssl_sess", totals.handshakes.total())
        .set("ssl_reused_sess", resumed(&totals))
        .set("ssl_failed_handshake", totals.handshake_failures.total())
}

fn resumed(totals: &FrontendTotals) -> u64 {
    let kinds = [HandshakeKind::Tls12Resumed, HandshakeKind::Tls13Resumed];
    kinds.into_iter().map(|kind| *totals.handshakes.of(kind)).sum()
}

fn listener_row(bind: &Bind) -> Row {
    let frontend = &bind.frontend;
    Row::new(Kind::Listener, (&frontend.name, frontend.number), &bind.name, bind.number)
        .set("scur", bind.open.load(Ordering::Relaxed))
        .set("status", "OPEN")
        .set("addr", &bind.key)
}

/// The one server that a backend has.
const SERVER_ID: u32 = 1;

fn server_row(backend: &Backend) -> Row {
    let totals = backend.server_counters.sum();
    let connected = totals.connect_time.count();
    let errors = totals.connect_errors.total();
    Row::new(Kind::Server, (&backend.name, backend.number), &backend.server, SERVER_ID)
        .set("qcur", 0)
        .set("scur", totals.active)
        .set("stot", connected + errors)
        .set("bin", totals.bytes_to_server)
        .set("bout", totals.bytes_from_server)
        .set("econ", errors)
        .set("status", if backend.target.is_some() { "no check" } else { "MAINT" })
        .set("weight", 1)
        .set("act", 1)
        .set("bck", 0)
        .set("lbtot", backend.counters.sum().chosen)
        .set("addr", backend.target.as_ref().map_or_else(String::new, Target::to_string))
        .set("uweight", 1)
}

fn backend_row(backend: &Backend) -> Row {
    let (totals, server) = (backend.counters.sum(), backend.server_counters.sum());
    let up = backend.target.is_some();
    Row::new(Kind::Backend, (&backend.name, backend.number), "BACKEND", 0)
        .set("qcur", 0)
        .set("scur", totals.active)
        .set("stot", totals.chosen)
        .set("bin", server.bytes_to_server)
        .set("bout", server.bytes_from_server)
        .set("econ", server.connect_errors.total())
        .set("status", if up { "UP" } else { "DOWN" })
        .set("weight", u8::from(up))
        .set("act", u8::from(up))
        .set("bck", 0)
        .set("lbtot", totals.chosen)
        .set("uweight", 1)
}

/// All rows in HAProxy's order: section by section, in a `listen` the frontend first and the backend last.
fn rows(snapshot: &Snapshot) -> Vec<Row> {
    let mut rows = Vec::new();
    for frontend in snapshot.frontends() {
        rows.push(frontend_row(frontend, snapshot));
        rows.extend(snapshot.binds_of(frontend).into_iter().map(|bind| listener_row(bind)));
    }
    for backend in snapshot.backends() {
        rows.extend([server_row(backend), backend_row(backend)]);
    }
    // Stable: in a section they stay as they are.
    rows.sort_by_key(|row| row.section);
    rows
}

/// `[{<iid>|<proxy>} <type> <sid>]`.
#[derive(Debug, PartialEq, Eq)]
struct Filter {
    section: Option<u32>,
    /// A bit for each [`Kind`], of the value 1, 2, 4, 8.
    kinds: u32,
    id: Option<u32>,
}

impl Filter {
    /// Without listeners: HAProxy lists them only where it counts for each (`option socket-stats`).
    const USUAL: Self = Self { section: None, kinds: 7, id: None };

    /// # Errors
    /// What is wrong with the words.
    fn parse(words: &[String], snapshot: &Snapshot) -> Result<Self, &'static str> {
        // What they leave out is not there in the first place.
        let words: Vec<&str> =
            words.iter().map(String::as_str).filter(|word| !matches!(*word, "up" | "no-maint" | "desc")).collect();
        if words.iter().any(|word| matches!(*word, "json" | "typed")) {
            return Err("There is CSV only.");
        }
        let [section, kinds, id] = words[..] else {
            return if words.is_empty() { Ok(Self::USUAL) } else { Err("Expected: {<iid>|<proxy>} <type> <sid>.") };
        };
        let number = |word: &str| word.parse::<i64>().ok();
        let named = || {
            let frontends = snapshot.frontends().iter().map(|frontend| (&frontend.name, frontend.number));
            let backends = snapshot.backends().iter().map(|backend| (&backend.name, backend.number));
            frontends.chain(backends).find(|(name, _)| *name == section).map(|(_, number)| number)
        };
        let section = match (named(), number(section)) {
            (Some(number), _) => Some(number),
            (None, Some(-1)) => None,
            (None, Some(number)) => Some(u32::try_from(number).unwrap_or(0)),
            (None, None) => return Err("No such proxy."),
        };
        let (Some(kinds), Some(id)) = (number(kinds), number(id)) else {
            return Err("Expected: {<iid>|<proxy>} <type> <sid>.");
        };
        // Everything, as far as it is usual.
        let kinds = if kinds == -1 { Self::USUAL.kinds } else { u32::try_from(kinds).unwrap_or(0) };
        Ok(Self { section, kinds, id: u32::try_from(id).ok() })
    }

    fn fits(&self, row: &Row) -> bool {
        let counted = matches!(row.kind, Kind::Server | Kind::Listener);
        self.section.is_none_or(|section| section == row.section)
            && self.kinds & (1 << row.kind as u32) != 0
            && self.id.is_none_or(|id| !counted || id == row.id)
    }
}

/// `show stat`.
pub(super) fn show_stat(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    let snapshot = session.site.snapshot();
    let filter = match Filter::parse(words, &snapshot) {
        Ok(filter) => filter,
        Err(reason) => return session.fail(out, reason),
    };
    writeln!(out, "# {},", COLUMNS.replace(' ', ","))?;
    for row in rows(&snapshot).iter().filter(|row| filter.fits(row)) {
        row.write(out)?;
    }
    Ok(Then::Stay)
}

/// `show info`.
pub(super) fn show_info(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    if words.iter().any(|word| matches!(word.as_str(), "json" | "typed")) {
        return session.fail(out, "There is plain text only.");
    }
    let site = session.site;
    let snapshot = site.snapshot();
    let process = site.stats.process().sum();
    let uptime = site.since.elapsed();
    let seconds = uptime.as_secs();
    let started = SystemTime::now().checked_sub(uptime).and_then(|start| start.duration_since(UNIX_EPOCH).ok());
    writeln!(out, "Name: Bowline")?;
    writeln!(out, "Version: {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "Nbthread: {}", site.loops.len())?;
    writeln!(out, "Nbproc: 1")?;
    writeln!(out, "Process_num: 1")?;
    writeln!(out, "Pid: {}", std::process::id())?;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    writeln!(out, "Uptime: {days}d {hours}h{minutes:02}m{:02}s", seconds % 60)?;
    writeln!(out, "Uptime_sec: {seconds}")?;
    if let Ok((limit, _)) = limits::descriptors() {
        writeln!(out, "Ulimit-n: {limit}")?;
        writeln!(out, "Maxsock: {limit}")?;
    }
    writeln!(out, "Maxconn: {}", snapshot.maxconn())?;
    writeln!(out, "Hard_maxconn: {}", snapshot.maxconn())?;
    writeln!(out, "CurrConns: {}", process.active)?;
    writeln!(out, "CumConns: {}", process.accepted)?;
    let (handshakes, reused, sent) = over_frontends(&site.stats);
    writeln!(out, "CumSslConns: {handshakes}")?;
    writeln!(out, "CumSslReused: {reused}")?;
    if let Some(name) = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()) {
        writeln!(out, "node: {name}")?;
    }
    writeln!(out, "Stopping: {}", u8::from(site.is_draining()))?;
    writeln!(out, "Jobs: {}", process.active)?;
    writeln!(out, "Listeners: {}", snapshot.binds().count())?;
    writeln!(out, "TotalBytesOut: {sent}")?;
    writeln!(out, "Start_time_sec: {}", started.unwrap_or(Duration::ZERO).as_secs())?;
    let service = site.stats.service();
    writeln!(out, "Generation: {}", snapshot.generation)?;
    writeln!(out, "ReloadsAdopted: {}", service.reloads_adopted.value())?;
    writeln!(out, "ReloadsRefused: {}", service.reloads_refused.value())?;
    writeln!(out, "LastReloadAdopted: {}", service.last_reload_adopted.value())?;
    writeln!(out, "LastAdopted_time_sec: {}", service.last_adopted_at.value())?;
    writeln!(out, "WorkerRestarts: {}", service.worker_restarts.value())?;
    Ok(Then::Stay)
}

/// Handshakes, those of them that were resumed, and bytes to clients.
fn over_frontends(stats: &Stats) -> (u64, u64, u64) {
    let mut sums = (0, 0, 0);
    for (_, totals) in stats.frontends() {
        sums.0 += totals.handshakes.total();
        sums.1 += resumed(&totals);
        sums.2 += totals.bytes_to_clients;
    }
    sums
}

/// `show servers state [<backend>]`: version 1 of HAProxy's format. Servers are not checked: each that can be used is up.
pub(super) fn show_servers(session: &mut Session<'_>, words: &[String], out: &mut dyn Write) -> io::Result<Then> {
    const HEAD: &str = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
                        srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state \
                        srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl \
                        srv_check_port srv_check_addr srv_agent_addr srv_agent_port";
    let snapshot = session.site.snapshot();
    let wanted = words.first().filter(|word| *word != "-1");
    let backends: Vec<_> =
        snapshot.backends().iter().filter(|backend| wanted.is_none_or(|name| *name == backend.name)).collect();
    if let (Some(_), true) = (wanted, backends.is_empty()) {
        return session.fail(out, "Can't find backend.");
    }
    writeln!(out, "1\n{HEAD}")?;
    let since = session.site.since.elapsed().as_secs();
    for Backend { name, number, server, target, .. } in backends.into_iter().map(|backend| &**backend) {
        let (address, port) = match target {
            Some(Target::Inet(address)) => (address.ip().to_string(), address.port()),
            Some(other) => (other.to_string(), 0),
            None => ("-".to_owned(), 0),
        };
        let (running, out_of_service) = if target.is_some() { (2, 0) } else { (0, 1) };
        writeln!(
            out,
            "{number} {name} {SERVER_ID} {server} {address} {running} {out_of_service} 1 1 {since} 1 0 2 0 0 0 0 - {port} - 0 0 - - 0"
        )?;
    }
    Ok(Then::Stay)
}

/// `show backend`.
pub(super) fn show_backend(session: &mut Session<'_>, _: &[String], out: &mut dyn Write) -> io::Result<Then> {
    writeln!(out, "# name")?;
    for backend in session.site.snapshot().backends() {
        writeln!(out, "{}", backend.name)?;
    }
    Ok(Then::Stay)
}
