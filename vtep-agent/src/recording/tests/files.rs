//! Files that are cut off, damaged, too large, or something else; disks that are full or slow.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    sync::LazyLock,
};

use proptest::prelude::*;

use super::{
    super::{
        End, Header, Incomplete, OpenError,
        format::{self, MAGIC, Record},
        reader::Reader,
        writer::Writer,
    },
    round_trip::every_kind,
    *,
};
use crate::core::Input;

fn ticks(count: usize) -> Vec<Turn> {
    vec![Turn::Input(Input::Tick); count]
}

#[test]
fn a_file_is_its_owners_and_the_last_ones_are_kept() {
    let directory = TempDir::new().unwrap();
    for turns in 1..=6 {
        let path = record(directory.path(), &ticks(turns));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    for (name, turns) in [
        ("recording", 6),
        ("recording.1", 5),
        ("recording.2", 4),
        ("recording.3", 3),
    ] {
        let (steps, _) = replay(&directory.path().join(name));
        assert_eq!(steps.len(), 1 + turns, "{name}");
    }
    assert!(!directory.path().join("recording.4").exists());
}

#[test]
fn what_is_no_regular_file_is_not_replaced() {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("recording")).unwrap();
    let error = record_with(directory.path(), &[], DEFAULT_LIMIT).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("cannot record to"), "{error}");
    assert!(error.contains("no regular file"), "{error}");
}

/// Whatever it is cut to, the whole turns are done again, and nothing else.
#[test]
fn a_file_that_is_cut_off_is_replayed_to_there() {
    let directory = TempDir::new().unwrap();
    let path = record(directory.path(), &ticks(5));
    let whole = fs::read(&path).unwrap();
    let mut most = 0;
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        match Replay::open(&path, false, Instant::now()) {
            Ok(mut replay) => {
                let steps: Vec<_> = std::iter::from_fn(|| replay.step()).collect();
                assert!(steps.iter().all(|step| !step.differs()));
                assert!(steps.len() >= most);
                most = steps.len();
                let cut_off = |end| matches!(end, Some(Err(Incomplete::CutOff { .. })));
                assert!(cut_off(replay.end()), "{length}: {:?}", replay.end());
            }
            Err(OpenError::Foreign(_)) if length < MAGIC.len() => {}
            Err(OpenError::Header(_)) if most == 0 => {}
            Err(error) => panic!("{length}: {error}"),
        }
    }
    assert_eq!(most, 6);
}

/// No octet can change without being noticed.
#[test]
fn a_damaged_file_is_named() {
    let directory = TempDir::new().unwrap();
    let path = record(directory.path(), &ticks(3));
    let whole = fs::read(&path).unwrap();
    for index in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[index] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        if let Ok(mut replay) = Replay::open(&path, false, Instant::now()) {
            let steps = std::iter::from_fn(|| replay.step());
            assert!(steps.count() < 5);
            let damaged = matches!(replay.end(), Some(Err(Incomplete::Damaged { .. })));
            assert!(damaged, "octet {index}: {:?}", replay.end());
        }
    }
}

#[test]
fn other_files_are_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("file");
    let open = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        match Replay::open(&path, false, Instant::now()) {
            Ok(_) => panic!("it was opened"),
            Err(error) => error.to_string(),
        }
    };
    assert!(open(b"").ends_with("is no recording of vtep-agent"));
    assert!(open(b"[vtep]\naddress = 1\n").ends_with("is no recording of vtep-agent"));
    let error = open(b"vtepREC\x09 and more");
    assert!(
        error.contains("format 9, this agent reads format 2"),
        "{error}"
    );
    assert!(open(&MAGIC).ends_with("it has no header"));

    let header = Header {
        agent: "0.0.1".to_owned(),
        ..Header::of_this_process(0)
    };
    let mut other = MAGIC.to_vec();
    format::frame(&serde_json::to_vec(&header).unwrap(), &mut other);
    let error = open(&other);
    assert!(error.contains("recorded by vtep-agent 0.0.1"), "{error}");
    assert!(error.contains("--force"), "{error}");
    assert!(Replay::open(&path, true, Instant::now()).is_ok());
}

/// A turn that does something else is found, and so is one of which the agent died.
#[test]
fn a_difference_is_found_where_it_is() {
    let directory = TempDir::new().unwrap();
    let path = record(directory.path(), &ticks(9));
    let (_, mut reader) = Reader::open(&path, false).unwrap();
    let mut records: Vec<_> = std::iter::from_fn(|| reader.next().ok()).collect();
    // Begin, Done, then two of each turn, End.
    assert_eq!(records.len(), 2 + 2 * 9 + 1);
    records[2 * 4 + 1] = Record::Done(4);
    records.truncate(2 * 7 + 1);
    let mut content = MAGIC.to_vec();
    let header = serde_json::to_vec(&Header::of_this_process(0)).unwrap();
    format::frame(&header, &mut content);
    for record in &records {
        format::frame(&format::encode(record).unwrap(), &mut content);
    }
    fs::write(&path, content).unwrap();
    let (steps, replay) = replay(&path);
    let differing: Vec<_> = steps.iter().filter(|step| step.differs()).collect();
    assert_eq!(differing.len(), 1);
    assert_eq!((differing[0].number, differing[0].expected), (4, Some(4)));
    let last = steps.last().unwrap();
    assert_eq!((last.number, last.expected), (7, None));
    assert!(matches!(replay.end(), Some(Err(Incomplete::CutOff { .. }))));
}

#[test]
fn a_full_file_ends_the_recording() {
    let directory = TempDir::new().unwrap();
    let path = record_with(directory.path(), &ticks(10_000), 8192).unwrap();
    let size = fs::metadata(&path).unwrap().len();
    assert!(size <= 8192 + 100, "{size}");
    let (steps, replay) = replay(&path);
    assert!(steps.len() > 50, "{}", steps.len());
    assert!(steps.iter().all(|step| !step.differs()));
    assert_eq!(replay.end(), Some(Ok(End::Full)));
}

/// A disk that takes nothing: the agent goes on, and what waits has a limit.
#[test]
fn a_slow_disk_ends_the_recording() {
    let (reader, writer) = io::pipe().unwrap();
    let file = File::from(OwnedFd::from(writer));
    let writer = Writer::start(file, "a pipe".to_owned(), u64::MAX, b"head".to_vec()).unwrap();
    let megabyte = vec![0; 1 << 20];
    let taken = (0..1000).take_while(|_| writer.add(&megabyte)).count();
    // As much again if the thread had taken what was there just before the limit was reached.
    assert!((60..=2 * 64).contains(&taken), "{taken}");
    assert!(!writer.add(&[]), "it ended for good");
    drop(reader);
}

#[test]
fn a_full_disk_ends_the_recording() {
    let file = File::options().write(true).open("/dev/full").unwrap();
    let writer = Writer::start(file, "/dev/full".to_owned(), u64::MAX, b"head".to_vec()).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while writer.add(&[1, 2, 3]) {
        assert!(Instant::now() < until, "nobody noticed");
        std::thread::sleep(Duration::from_millis(1));
    }
}

static TURNS: LazyLock<Vec<Turn>> = LazyLock::new(every_kind);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Octets that were framed well and mean nothing.
    #[test]
    fn random_records_never_panic(content in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = format::decode::<Record>(&content);
        let mut file = MAGIC.to_vec();
        let header = serde_json::to_vec(&Header::of_this_process(0)).unwrap();
        format::frame(&header, &mut file);
        format::frame(&content, &mut file);
        file.extend_from_slice(&content);
        let (_, mut reader) = Reader::begin(file.as_slice(), Path::new("file")).unwrap();
        while reader.next().is_ok() {}
    }

    /// A record that is still one after some of its octets changed.
    #[test]
    fn changed_records_never_panic(
        turn in 0..TURNS.len(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let record = Record::<(), _>::Turn(Duration::ZERO, &TURNS[turn]);
        let mut content = format::encode(&record).unwrap();
        for (index, octet) in changes {
            let index = index.index(content.len());
            content[index] = octet;
        }
        if let Some(Record::Turn(at, turn)) = format::decode::<Record>(&content) {
            let _ = format!("{at:?} {turn:?}");
        }
    }
}
