//! Measures times, memory and freshness of the index on folders; prints a table for each.
//!
//! `cargo run --release -p indexer --example speed -- FOLDER…`
//!
//! Works on a copy of each folder, on all cores. Every stage runs in a process of its own, so that
//! memory is that stage's; `-- --STAGE FOLDER CACHE` runs one on the folder itself: `parse`, `cold`,
//! `warm`, `ask` (questions alone), `switch` (a git repository: 5,000 files change with the branch),
//! `busy` (completions while the index is built). Cursors and questions come from the files
//! themselves, spread evenly: a question is the names on three lines, or a line of comment.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use indexer::{CursorQuery, Index, Options, Query, RepoPath, Tokens, Watching, fit};

type Failure = Box<dyn std::error::Error>;

const N_QUESTIONS: usize = 400;
const N_EDITS: usize = 200;
const N_SWITCHED: usize = 5_000;

fn main() -> Result<(), Failure> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    if let [stage, root, cache] = &arguments[..]
        && let Some(stage) = stage.to_str().and_then(|name| name.strip_prefix("--"))
    {
        let root = &root.canonicalize()?;
        let mut out = io::stdout().lock();
        return match stage {
            "parse" => parse(root, &mut out),
            "cold" => cold(root, cache, &mut out),
            "switch" => switch(root, cache, &mut out),
            "busy" => busy(root, cache, &mut out),
            "ask" => ask(&open(root, cache)?, root, &mut out).map(drop),
            _ => warm(root, cache, &mut out),
        };
    }
    for folder in &arguments {
        let scratch = tempfile::tempdir()?;
        let (root, cache) = (scratch.path().join("tree"), scratch.path().join("cache"));
        copy(folder, &root)?;
        writeln!(
            io::stdout(),
            "\n### {}\n\n| | |\n|---|---|",
            folder.display()
        )?;
        // The first reads the files into the page cache for all.
        for stage in ["--parse", "--cold", "--warm"] {
            #[expect(clippy::disallowed_methods, reason = "runs itself")]
            let child = Command::new(env::current_exe()?)
                .arg(stage)
                .args([&root, &cache])
                .stdin(Stdio::null())
                .status()?;
            if !child.success() {
                return Err(format!("{stage} failed on {}", folder.display()).into());
            }
        }
    }
    Ok(())
}

fn parse(root: &Path, out: &mut impl Write) -> Result<(), Failure> {
    fit::parse_all(root, n_threads());
    let (started, busy) = (Instant::now(), cpu());
    let (n_files, n_bytes) = fit::parse_all(root, n_threads());
    let (took, busy) = (started.elapsed(), cpu() - busy);
    writeln!(
        out,
        "| files that are indexed | {n_files}, {} |",
        mib(n_bytes as u64)
    )?;
    writeln!(
        out,
        "| only read and parsed: time, CPU | {:.2} s, {busy:.2} s |",
        took.as_secs_f64()
    )?;
    Ok(())
}

fn cold(root: &Path, cache: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let started = Instant::now();
    let index = open(root, cache)?;
    index.rescan();
    if !index.wait_until_seen(soon()) {
        return Err("the files were not indexed in time".into());
    }
    let (seen, busy) = (started.elapsed().as_secs_f64(), cpu());
    settle(&index)?;
    let took = started.elapsed().as_secs_f64();
    writeln!(
        out,
        "| cold index, every file found: time, CPU | {seen:.2} s, {busy:.2} s |"
    )?;
    writeln!(
        out,
        "| … on disk, with git history | {took:.2} s, {:.2} s |",
        cpu()
    )?;
    let bytes = Index::footprint(cache, root).bytes;
    writeln!(out, "| size on disk | {} |", mib(bytes))?;
    writeln!(out, "| peak RSS of the cold index | {} |", memory("VmHWM:"))?;
    Ok(())
}

fn warm(root: &Path, cache: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let started = Instant::now();
    let index = open(root, cache)?;
    let opened = started.elapsed();
    settle(&index)?;
    let took = started.elapsed();
    writeln!(
        out,
        "| warm start: answers, all checked | {}, {} |",
        ms(opened),
        ms(took)
    )?;
    writeln!(
        out,
        "| idle RSS, of it not mapped files | {}, {} |",
        memory("VmRSS:"),
        memory("RssAnon:")
    )?;
    let places = ask(&index, root, out)?;
    let mut row = |what: &str, times: Vec<Taken>| report(out, what, times);
    let edited = &places[..N_EDITS.min(places.len())];
    let (mut opened, mut typed) = (Vec::new(), Vec::new());
    for place in edited {
        let path = root.join(place.path.as_str());
        let mut text = place.text.clone();
        let mut key = |_: &Place| {
            text.insert(place.cursor, 'x');
            index.buffer_changed(&path, text.as_str().into());
            index.wait_until_seen(soon())
        };
        opened.push(time_one(place, &mut key));
        typed.push(time_one(place, &mut key));
        index.buffer_closed(&path);
        index.wait_until_seen(soon());
    }
    row("a buffer opened → seen", opened)?;
    row("a key in an open buffer → seen", typed)?;
    settle(&index)?;
    row(
        "a saved file → seen",
        time(edited, |place| {
            let path = root.join(place.path.as_str());
            let saved = fs::write(&path, format!("{}\n", place.text));
            index.changed([path]);
            saved.is_ok() && index.wait_until_seen(soon())
        }),
    )?;
    let started = Instant::now();
    settle(&index)?;
    writeln!(
        out,
        "| these {} files → on disk | {} |",
        edited.len(),
        ms(started.elapsed())
    )?;
    writeln!(out, "| RSS after all this | {} |", memory("VmRSS:"))?;
    Ok(())
}

/// Asks every question, and at every cursor; returns where they come from.
fn ask(index: &Index, root: &Path, out: &mut impl Write) -> Result<Vec<Place>, Failure> {
    settle(index)?;
    let places = places(index, root);
    let reader = index.reader();
    let search = |place: &Place| reader.search(&Query::new(&place.question)).len();
    report(out, "search", time(&places, search))?;
    let cursor = |place: &Place| near_cursor(index, place);
    report(out, "near_cursor", time(&places, cursor))?;
    Ok(places)
}

/// Switches to a branch on which 5,000 files differ and back, with three of them open and three
/// closed just before.
fn switch(root: &Path, cache: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let git = |arguments: &[&str]| -> Result<(), Failure> {
        #[expect(
            clippy::disallowed_methods,
            reason = "a branch is switched by git itself"
        )]
        let status = Command::new("git")
            .args(["-c", "user.name=speed", "-c", "user.email=speed@localhost"])
            .args(arguments)
            .current_dir(root)
            .stdin(Stdio::null())
            .status()?;
        status.success().then_some(()).ok_or("git failed".into())
    };
    let index = open(root, cache)?;
    settle(&index)?;
    let reader = index.reader();
    let mut paths: Vec<RepoPath> = reader
        .paths()
        .filter(|path| reader.content_hash(path).is_some())
        .cloned()
        .collect();
    paths.sort();
    let step = (paths.len() / N_SWITCHED).max(1);
    let changed: Vec<RepoPath> = paths.into_iter().step_by(step).take(N_SWITCHED).collect();
    let was = index.status().head.branch.unwrap_or("HEAD".to_owned());
    git(&["checkout", "-q", "-B", "speed-other"])?;
    for path in &changed {
        let on_disk = root.join(path.as_str());
        let text = fs::read(&on_disk)?;
        fs::write(&on_disk, [&text[..], b"\n\n# another_branch\n"].concat())?;
    }
    git(&["commit", "-q", "-a", "-m", "Change many files"])?;
    git(&["checkout", "-q", &was])?;
    index.rescan();
    settle(&index)?;

    if changed.len() < 6 {
        return Err("too few files".into());
    }
    let (open_files, rest) = changed.split_at(3);
    let closed_files = &rest[rest.len() - 3..];
    let show = |path: &RepoPath| -> Result<(), Failure> {
        let path = root.join(path.as_str());
        index.buffer_changed(&path, fs::read_to_string(&path)?.into());
        Ok(())
    };
    for (branch, what) in [("speed-other", "to new content"), (&was, "back")] {
        for path in closed_files {
            show(path)?;
            index.buffer_closed(&root.join(path.as_str()));
        }
        settle(&index)?;
        git(&["checkout", "-q", branch])?;
        let started = Instant::now();
        open_files.iter().try_for_each(show)?;
        index.rescan();
        let is_fresh = |path: &RepoPath| {
            let shown = index.reader().content_hash(path);
            let now = fs::read(root.join(path.as_str())).ok();
            now.is_some_and(|text| shown == Some(indexer::ContentHash::of(&text)))
        };
        let fresh_after = |files: &[RepoPath]| {
            #[expect(clippy::disallowed_methods, reason = "a reader cannot be waited for")]
            while !files.iter().all(is_fresh) {
                std::thread::sleep(Duration::from_millis(1));
            }
            started.elapsed()
        };
        let (open_took, closed_took) = (fresh_after(open_files), fresh_after(closed_files));
        if !index.wait_until_seen(soon()) {
            return Err("the branch was not indexed in time".into());
        }
        let all_took = started.elapsed();
        settle(&index)?;
        writeln!(
            out,
            "| branch of {} files, {what}: open files, those closed last, all, on disk | {}, {}, {}, {} |",
            changed.len(),
            ms(open_took),
            ms(closed_took),
            ms(all_took),
            ms(started.elapsed())
        )?;
    }
    git(&["branch", "-q", "-D", "speed-other"])
}

/// Asks for completions every 20 ms while the index is built.
fn busy(root: &Path, cache: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let index = open(root, cache)?;
    let mut times = Vec::new();
    let (mut places, mut n_known) = (Vec::new(), 0);
    while !index.wait_until_settled(Instant::now() + Duration::from_millis(20)) {
        let n_indexed = index.status().n_indexed;
        if n_indexed > 2 * n_known {
            (places, n_known) = (self::places(&index, root), n_indexed);
        }
        if !places.is_empty() {
            let place = &places[times.len() % places.len()];
            times.push(time_one(place, |place| near_cursor(&index, place)));
        }
    }
    report(out, "near_cursor while the index is built", times)?;
    writeln!(out, "| peak RSS | {} |", memory("VmHWM:"))?;
    Ok(())
}

fn near_cursor(index: &Index, place: &Place) -> usize {
    let query = CursorQuery {
        path: &place.path,
        text: &place.text,
        cursor: place.cursor,
        limit: 4,
        budget: Tokens(1_024),
        until: None,
    };
    index.reader().near_cursor(&query).len()
}

/// A cursor in a file, and a question to the repository.
struct Place {
    path: RepoPath,
    text: String,
    cursor: usize,
    question: String,
}

fn places(index: &Index, root: &Path) -> Vec<Place> {
    let reader = index.reader();
    let mut paths: Vec<RepoPath> = reader
        .paths()
        .filter(|path| {
            reader
                .unit(path)
                .is_some_and(|unit| unit.definitions.len() > 2)
        })
        .cloned()
        .collect();
    paths.sort();
    let step = (paths.len() / N_QUESTIONS).max(1);
    let place = |(n, path): (usize, RepoPath)| {
        let text = fs::read_to_string(root.join(path.as_str())).ok()?;
        let starts: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        let cursor = *starts.get(starts.len() * (1 + n % 7) / 8)?;
        let comment = text
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix(['/', '#', '*', '"']))
            .find(|line| line.split_whitespace().count() > 5);
        let names = || text[cursor..].lines().take(3).collect::<Vec<_>>().join(" ");
        let question = match comment {
            Some(comment) if n % 2 == 0 => comment.to_owned(),
            Some(_) | None => names(),
        };
        Some(Place {
            path,
            text,
            cursor,
            question,
        })
    };
    paths
        .into_iter()
        .step_by(step)
        .enumerate()
        .filter_map(place)
        .collect()
}

/// What one call took.
#[derive(Clone, Copy)]
struct Taken {
    wall: Duration,
    cpu: Duration,
}

fn time<R>(places: &[Place], mut call: impl FnMut(&Place) -> R) -> Vec<Taken> {
    // What is read from disk for the first time is not what is measured.
    for place in places.iter().take(20) {
        time_one(place, &mut call);
    }
    places
        .iter()
        .map(|place| time_one(place, &mut call))
        .collect()
}

fn time_one<R>(place: &Place, mut call: impl FnMut(&Place) -> R) -> Taken {
    let (started, busy) = (Instant::now(), thread_cpu());
    std::hint::black_box(call(place));
    Taken {
        wall: started.elapsed(),
        cpu: thread_cpu().saturating_sub(busy),
    }
}

fn report(out: &mut impl Write, what: &str, mut times: Vec<Taken>) -> Result<(), Failure> {
    if times.is_empty() {
        return Err(format!("nothing to measure: {what}").into());
    }
    let mut at = |of: fn(&Taken) -> Duration| {
        times.sort_unstable_by_key(of);
        let share = |share: f64| ms(of(&times[((times.len() - 1) as f64 * share) as usize]));
        format!("{} / {}", share(0.5), share(0.99))
    };
    let (wall, cpu) = (at(|taken| taken.wall), at(|taken| taken.cpu));
    let n = times.len();
    writeln!(
        out,
        "| {what}, p50 / p99 (n = {n}); CPU of the caller | {wall}; {cpu} |"
    )?;
    Ok(())
}

/// Returns the CPU time of this thread; Linux only.
fn thread_cpu() -> Duration {
    #[cfg(target_os = "linux")]
    {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
    }
    #[cfg(not(target_os = "linux"))]
    Duration::ZERO
}

fn open(root: &Path, cache: &Path) -> Result<Index, Failure> {
    Ok(Index::open(Options {
        watch: Watching::Off,
        ..Options::new(root, cache)
    })?)
}

fn settle(index: &Index) -> Result<(), Failure> {
    if index.wait_until_settled(soon()) {
        Ok(())
    } else {
        Err(format!("not settled: {:?}", index.status()).into())
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(1_800)
}

fn n_threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Returns the seconds of CPU that this process has used; Linux only.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    // The kernel counts hundredths, whatever its own rhythm.
    ticks.filter_map(|n| n.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Returns a line of what the kernel says of this process, as MiB; Linux only.
fn memory(line: &str) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|l| {
        l.strip_prefix(line)?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    kib.map_or("unknown".to_owned(), |kib| mib(kib << 10))
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// Copies a folder, links left out.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
