//! Importers on real files: what is kept, what is rejected and why, what is refused.
#![allow(clippy::unwrap_used, clippy::type_complexity, reason = "helpers of tests")]

use attune_dataset::import::{MAX_LINE_BYTES, Reason};
use attune_dataset::{Dataset, Format, ImportError, ImportProgress, NoProgress, Report, Source, detect, import};
use attune_domain::{Context, Device, EventKind, Geo, ItemIx, PageType};
use attune_identity::SubjectKey;
use proptest::prelude::*;
use std::cell::RefCell;
use std::path::Path;

fn key() -> SubjectKey {
    SubjectKey::new(1, [7; 32])
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn read(format: Format, path: &Path) -> Result<(Dataset, Report), ImportError> {
    import(&Source { format, path: path.into() }, &key(), &NoProgress)
}

/// Imports, and checks that no row is lost.
fn take(format: Format, files: &[(&str, &[u8])]) -> (Dataset, Report) {
    let (data, report) = read(format, folder(files).path()).unwrap();
    check_account(&data, &report);
    (data, report)
}

fn check_account(data: &Dataset, report: &Report) {
    assert_eq!(report.rows_read, report.kept + report.rejected_total(), "{report}");
    for file in &report.files {
        assert_eq!(file.rows_read, file.kept + file.rejected, "{report}");
    }
    for (reason, named) in &report.first_offending {
        assert_eq!(named.len() as u64, report.rejected[reason].min(5));
    }
    assert_eq!((report.items, report.users), (data.items.len(), data.users.len()));
    assert_eq!((report.events, report.test_events), (data.events.len(), data.test.len()));
    assert!(data.events.is_sorted_by_key(|e| e.occurred_at));
}

/// Events as (user number, item id, type, time, value).
fn events(data: &Dataset) -> Vec<(u32, &str, EventKind, i64, f32)> {
    data.events
        .iter()
        .map(|e| (e.user, data.items[e.item.index()].id.as_str(), e.kind, e.occurred_at, e.value))
        .collect()
}

const HEADER: &str = "user_id,item_id,type,occurred_at,value,request_id,position,page_type,device,geo\n";
const GOOD: &str = "u1,i1,click,2026-01-01T00:00:00Z,,,,,,\n";

#[test]
fn every_reason_is_given_with_its_line_and_field() {
    let long_id = "x".repeat(129);
    let long_line = vec![b'x'; 10 << 20];
    let cases: Vec<(Reason, Option<&str>, Vec<u8>)> = vec![
        (Reason::EmptyLine, None, b"  ".to_vec()),
        (Reason::LineTooLong, None, long_line),
        (Reason::NotUtf8, None, b"u\xff,i1,click,1700000000".to_vec()),
        (Reason::Malformed, None, b"u1,\"i1,click,1700000000".to_vec()),
        (Reason::Malformed, None, b"u1,i1,click,1700000000,,,,,,,surplus".to_vec()),
        (Reason::MissingField, Some("user_id"), b",i1,click,1700000000".to_vec()),
        (Reason::MissingField, Some("occurred_at"), b"u1,i1,click".to_vec()),
        (Reason::MissingField, Some("value"), b"u1,i1,dwell,1700000000".to_vec()),
        (Reason::MissingField, Some("position"), b"u1,i1,click,1700000000,,r1".to_vec()),
        (Reason::UnknownType, Some("type"), b"u1,i1,purchase,1700000000".to_vec()),
        (Reason::BadTimestamp, Some("occurred_at"), b"u1,i1,click,yesterday".to_vec()),
        (Reason::BadNumber, Some("value"), b"u1,i1,dwell,1700000000,-3".to_vec()),
        (Reason::BadNumber, Some("value"), b"u1,i1,dwell,1700000000,NaN".to_vec()),
        (Reason::BadNumber, Some("value"), b"u1,i1,dwell,1700000000,inf".to_vec()),
        (Reason::BadNumber, Some("value"), b"u1,i1,click,1700000000,2".to_vec()),
        (Reason::BadNumber, Some("position"), b"u1,i1,click,1700000000,,r1,256".to_vec()),
        (Reason::BadId, Some("item_id"), format!("u1,{long_id},click,1700000000").into_bytes()),
        (Reason::BadId, Some("user_id"), b"u\x07,i1,click,1700000000".to_vec()),
        (Reason::BadValue, Some("page_type"), b"u1,i1,click,1700000000,,,,basket".to_vec()),
        (Reason::UnknownItem, Some("item_id"), b"u1,i9,click,1700000000".to_vec()),
        (Reason::Duplicate, None, GOOD.trim().as_bytes().to_vec()),
    ];
    for (reason, field, row) in &cases {
        let mut file = [HEADER, GOOD].concat().into_bytes();
        file.extend_from_slice(row);
        file.extend_from_slice(b"\nu1,i1,like,1700000001");
        let (data, report) = take(Format::Csv, &[("events.csv", &file), ("items.csv", b"id\ni1\n")]);
        let shown = String::from_utf8_lossy(&row[..row.len().min(60)]);
        assert_eq!(report.rejected.iter().collect::<Vec<_>>(), [(reason, &1)], "{shown}");
        let offence = &report.first_offending[reason][0];
        assert_eq!((offence.file.as_str(), offence.line, offence.field), ("events.csv", 3, *field), "{shown}");
        assert_eq!(data.events.len(), 2, "the rows around it are kept: {shown}");
        assert!(report.to_string().contains(reason.as_str()));
    }
    let items = |row: &str| {
        let file = format!("id,title,categories,attributes,price,created_at,available\n{row}\n");
        take(Format::Csv, &[("events.csv", HEADER.as_bytes()), ("items.csv", file.as_bytes())]).1
    };
    let many = (0..33).map(|i| i.to_string()).collect::<Vec<_>>().join("|");
    for (reason, field, row) in [
        (Reason::TooManyValues, "categories", format!("i1,t,{many}")),
        (Reason::BadValue, "attributes", "i1,t,,colour".to_owned()),
        (Reason::BadValue, "attributes", "i1,t,,a=1|a=2".to_owned()),
        (Reason::BadNumber, "price", "i1,t,,,1.5".to_owned()),
        (Reason::BadTimestamp, "created_at", "i1,t,,,,soon".to_owned()),
        (Reason::BadValue, "available", "i1,t,,,,,perhaps".to_owned()),
        (Reason::Duplicate, "id", "i1\ni1".to_owned()),
    ] {
        let report = items(&row);
        assert_eq!(report.first_offending[&reason][0].field, Some(field), "{row}");
    }
    let covered = |r: &Reason| cases.iter().any(|c| c.0 == *r) || *r == Reason::TooManyValues;
    assert!(Reason::ALL.iter().all(covered), "every reason has a case");
}

#[test]
fn a_report_names_five_places_of_a_reason_and_no_user() {
    let rows = "secret-user,i1,nonsense,1700000000\n".repeat(9);
    let (_, report) = take(Format::Csv, &[("events.csv", [HEADER, &rows].concat().as_bytes())]);
    assert_eq!(report.rejected[&Reason::UnknownType], 9);
    assert_eq!(report.first_offending[&Reason::UnknownType].len(), 5);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["rejected"]["unknown_type"], 9);
    assert_eq!(json["first_offending"]["unknown_type"][0]["line"], 2);
    assert!(!format!("{report}{json}").contains("secret"));
}

#[test]
fn csv_is_read_whole() {
    let file = "\u{feff}User_ID,ITEM_ID,type,occurred_at,value,request_id,position,page_type,device,geo,campaign\r\n\
        u1,i1,impression,2026-01-01T00:00:00Z,,r1,0,search,mobile,eu-west,x\r\n\
        u1,i2,impression,2026-01-01T00:00:00Z,,r1,1,search,mobile,eu-west,x\r\n\
        u1,i2,Click,2026-01-01T00:00:00.250Z,,r1,1,search,fridge,moon,x\r\n\
        u2,i1,conversion,1767225600,1999,,,,,,\r\n\
        u2,i1,dwell,1767225600,12.5,,,,,,\r\n\
        u2,i2,click,1767225600,,,,,,,";
    let items = "id,title,categories,attributes,price,created_at,available\n\
        i1,\"Pan, cast-iron\",kitchen| sale,colour=black|brand=Alder,1999,2025-06-01T00:00:00Z,true\ni2,,,,,,false\n";
    let users = "user_id,age_bucket,plan\nu2,25-34,\nu3,55+,gold\n";
    let files = [("events.csv", file.as_bytes()), ("items.csv", items.as_bytes()), ("users.csv", users.as_bytes())];
    let (data, report) = take(Format::Csv, &files);
    assert_eq!(report.rejected_total(), 0, "{report}");
    assert_eq!(report.files.last().unwrap().ignored_columns, ["campaign"]);
    let t = 1_767_225_600_000;
    assert_eq!(
        events(&data),
        [
            (2, "i1", EventKind::Impression, t, 1.0),
            (2, "i2", EventKind::Impression, t, 1.0),
            (0, "i1", EventKind::Conversion, t, 1999.0),
            (0, "i1", EventKind::Dwell, t + 1, 12.5),
            (0, "i2", EventKind::Click, t + 2, 1.0),
            (2, "i2", EventKind::Click, t + 250, 1.0),
        ]
    );
    assert_eq!(data.events[0].context, Context { page: PageType::Search, device: Device::Mobile, geo: Geo::EuWest });
    assert_eq!(data.events[5].context, Context { page: PageType::Search, device: Device::Other, geo: Geo::Other });
    let slots: Vec<_> = data.events.iter().map(|e| e.slate.map(|s| (s.slate, s.position))).collect();
    assert_eq!(slots, [Some((0, 0)), Some((0, 1)), None, None, None, Some((0, 1))]);
    let item = &data.items[0];
    assert_eq!((item.title.as_str(), item.price, item.available), ("Pan, cast-iron", Some(1999), true));
    assert_eq!(item.categories, ["kitchen", "sale"]);
    assert_eq!(item.attributes, [("brand".into(), "Alder".into()), ("colour".into(), "black".into())]);
    assert_eq!((data.items[1].title.as_str(), data.items[1].available), ("i2", false));
    assert_eq!(data.users, ["u2", "u3", "u1"].map(|u| key().uid(u)));
    assert_eq!(data.attributes[0].get("age_bucket"), Some("25-34"));
    assert_eq!((data.attributes[0].get("plan"), data.attributes[1].get("plan")), (None, Some("gold")));
    assert_eq!(data.key_fingerprint, key().fingerprint());

    let first = data.logged_event(0, 9).unwrap();
    let second = data.logged_event(1, 9).unwrap();
    assert_eq!((first.request_id, first.position, second.position), (second.request_id, Some(0), Some(1)));
    assert!(first.request_id.is_some() && first.imported && !first.in_decision && first.event_id != second.event_id);
    assert_eq!(data.logged_event(2, 9).unwrap().request_id, None);
}

#[test]
fn jsonl_says_the_same_as_csv() {
    let file = br#"{"user_id":"u1","item_id":7,"type":"click","occurred_at":1767225600.5}
nonsense
{"user_id":"u1","item_id":"7","type":"dwell","occurred_at":"2026-01-01T00:00:01Z","value":3,"device":"tv","extra":[1]}
{"user_id":["u1"],"item_id":"7","type":"click","occurred_at":1767225600}
{"user_id":"u1","item_id":null,"type":"click","occurred_at":1767225600}
[1,2]
"#;
    let items = br#"{"id":"7","title":"Lamp","categories":["lighting"],"attributes":{"watts":40,"dim":true},"price":1200,"available":true}
{"id":"8","categories":"lighting"}
"#;
    let users = br#"{"user_id":"u1","attributes":{"age_bucket":"55+"}}
{"user_id":"u1","attributes":{}}
"#;
    let (data, report) = take(Format::Jsonl, &[("events.jsonl", file), ("items.jsonl", items), ("users.jsonl", users)]);
    let t = 1_767_225_600_000;
    assert_eq!(events(&data), [(0, "7", EventKind::Click, t + 500, 1.0), (0, "7", EventKind::Dwell, t + 1000, 3.0)]);
    assert_eq!(data.items[0].attributes, [("dim".into(), "true".into()), ("watts".into(), "40".into())]);
    assert_eq!(data.attributes[0].get("age_bucket"), Some("55+"));
    let places =
        |reason| report.first_offending[&reason].iter().map(|o| (o.file.as_str(), o.line, o.field)).collect::<Vec<_>>();
    assert_eq!(places(Reason::Malformed), [("events.jsonl", 2, None), ("events.jsonl", 6, None)]);
    assert_eq!(
        places(Reason::BadValue),
        [("items.jsonl", 2, Some("categories")), ("events.jsonl", 4, Some("user_id"))]
    );
    assert_eq!(places(Reason::MissingField), [("events.jsonl", 5, Some("item_id"))]);
    assert_eq!(places(Reason::Duplicate), [("users.jsonl", 2, Some("user_id"))]);
}

#[test]
fn a_table_of_the_other_notation_fills_in() {
    let event = br#"{"user_id":"u1","item_id":"7","type":"click","occurred_at":1}"#;
    let (table, lines): ((&str, &[u8]), (&str, &[u8])) =
        (("items.csv", b"id,title\n7,from csv\n"), ("items.jsonl", br#"{"id":"7","title":"from jsonl"}"#));
    let title = |files: &[(&str, &[u8])], format| take(format, files).0.items[0].title.clone();
    assert_eq!(title(&[("events.jsonl", event), table], Format::Jsonl), "from csv");
    assert_eq!(title(&[("events.jsonl", event), table, lines], Format::Jsonl), "from jsonl");
    let rows = [HEADER, "u1,7,click,1\n"].concat();
    assert_eq!(title(&[("events.csv", rows.as_bytes()), lines], Format::Csv), "from jsonl");
    assert_eq!(title(&[("events.csv", rows.as_bytes()), table, lines], Format::Csv), "from csv");
}

#[test]
fn movielens_rows_of_one_second_keep_the_files_order() {
    let movies = "MovieID,Title,Genres\n1,\"President, The (1995)\",Comedy|Drama\n2,Heat (1995),(no genres listed)\n2,Again (1999),Drama\n";
    let ratings = "userid,movieid,rating,timestamp\n\
        9,2,4.0,100\n9,1,3.5,100\n9,1,3.5,100\n9,1,4.5,100\n9,1,5.0,100\n9,3,5.0,100\n9,1,6,100\n9,1,5,1e9\n8,1,0.5,99\n";
    let tags = "userId,movieId,tag,timestamp\n9,1,Funny,1\n8,1,funny,2\n8,1,\"a, b\",2\n8,7,lost,2\n";
    let files = [("movies.csv", movies.as_bytes()), ("ratings.csv", ratings.as_bytes()), ("tags.csv", tags.as_bytes())];
    let (data, report) = take(Format::MovieLens, &files);
    assert_eq!(
        events(&data),
        [
            (1, "1", EventKind::Click, 99_000, 1.0),
            (0, "2", EventKind::Like, 100_000, 1.0),
            (0, "1", EventKind::Click, 100_001, 1.0),
            (0, "1", EventKind::Like, 100_002, 1.0),
            (0, "1", EventKind::Like, 100_003, 1.0),
        ],
        "rows that differ in their stars only are both kept"
    );
    assert_eq!(data.items[0].attributes, [("tags".into(), "funny, a, b".into()), ("year".into(), "1995".into())]);
    assert!(data.items[1].categories.is_empty());
    let counts: Vec<_> = report.rejected.iter().map(|(r, n)| (*r, *n)).collect();
    let expected =
        [(Reason::BadTimestamp, 1), (Reason::BadNumber, 1), (Reason::UnknownItem, 2), (Reason::Duplicate, 2)];
    assert_eq!(counts, expected);
    assert_eq!(report.first_offending[&Reason::Duplicate][1].line, 4);
}

#[test]
fn lightgcn_gives_ordered_clicks_and_a_test_set() {
    let files: [(&str, &[u8]); 2] =
        [("train.txt", b"0 5 6 5 7\r\n1 6 x 5 \n2\nuser 3\n"), ("test.txt", b"0 8\n3 5 9\n")];
    let (data, report) = take(Format::LightGcn, &files);
    let start = 1_577_836_800_000;
    let train: Vec<_> = events(&data).into_iter().map(|e| (e.0, e.1, e.3 - start)).collect();
    assert_eq!(train, [(0, "5", 60_000), (1, "6", 60_000), (0, "6", 120_000), (1, "5", 120_000), (0, "7", 180_000)]);
    let test: Vec<_> = data.test.iter().map(|e| (e.user, data.items[e.item.index()].id.as_str())).collect();
    assert_eq!(test, [(3, "5"), (3, "9"), (0, "8")]);
    assert_eq!(data.test.last().unwrap().occurred_at - start, 240_000, "after the user's last of train");
    assert_eq!((data.users.len(), data.items.len()), (4, 5), "a user without items is a user");
    assert_eq!(
        report.rejected.iter().map(|(r, n)| (*r, *n)).collect::<Vec<_>>(),
        [(Reason::BadNumber, 2), (Reason::Duplicate, 1)]
    );
}

#[test]
fn bad_files_are_one_clear_error() {
    let cases: [(Format, &str, &[(&str, &[u8])], &str); 8] = [
        (Format::Csv, "nowhere", &[], "does not exist"),
        (Format::Csv, "", &[("other", b"x")], "events.csv does not exist"),
        (Format::Csv, "", &[("events.csv", b"")], "events.csv is empty"),
        (Format::Csv, "", &[("events.csv", b"user_id,item_id,when\n")], "its header has no column type"),
        (Format::Csv, "", &[("events.csv", b"\x1f\x8b\x08\xff\n")], "its first line is not a header"),
        (Format::MovieLens, "", &[("movies.csv", b"movieId,title,genres\n1,a,b\n")], "ratings.csv does not exist"),
        (Format::LightGcn, "", &[("train.txt", b"user item\n")], "whole numbers"),
        (Format::Jsonl, "", &[("events.jsonl", b"a,b\n1,2\n")], "JSON object"),
    ];
    for (format, path, files, expected) in cases {
        let dir = folder(files);
        let error = read(format, &dir.path().join(path)).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
    let dir = folder(&[]);
    std::fs::create_dir(dir.path().join("events.csv")).unwrap();
    assert!(matches!(read(Format::Csv, dir.path()), Err(ImportError::Unreadable { .. })));
}

#[test]
fn formats_are_told_apart() {
    let csv = [HEADER, GOOD].concat();
    let cases: [(&str, &[u8], Option<Format>); 6] = [
        ("a.csv", csv.as_bytes(), Some(Format::Csv)),
        ("a.data", b"{\"user_id\":1}\n", Some(Format::Jsonl)),
        ("a.txt", b"0 1 2\n", Some(Format::LightGcn)),
        ("b.csv", b"x,y\n1,2\n", None),
        ("empty", b"", None),
        ("zip", b"\x1f\x8b\x08\xff\n", None),
    ];
    for (name, bytes, format) in cases {
        let dir = folder(&[(name, bytes)]);
        assert_eq!(detect(&dir.path().join(name)), format, "{name}");
        assert_eq!(detect(dir.path()), None, "no file of a known name: {name}");
    }
    for (names, format) in [
        (&["movies.csv", "ratings.csv"][..], Format::MovieLens),
        (&["train.txt"], Format::LightGcn),
        (&["events.csv"], Format::Csv),
        (&["events.jsonl"], Format::Jsonl),
    ] {
        let dir = folder(&names.iter().map(|n| (*n, &b"x"[..])).collect::<Vec<_>>());
        assert_eq!(detect(dir.path()), Some(format));
    }
    assert!(Format::ALL.iter().all(|f| Format::parse(f.as_str()) == Some(*f)));
}

#[test]
fn importing_writes_nothing_and_tells_how_far_it_is() {
    #[derive(Default)]
    struct Seen(RefCell<Vec<(String, u64, u64)>>);
    impl ImportProgress for Seen {
        fn file(&self, name: &str, bytes: u64) {
            self.0.borrow_mut().push((name.into(), bytes, 0));
        }
        fn at(&self, bytes: u64) {
            self.0.borrow_mut().last_mut().unwrap().2 = bytes;
        }
        fn done(&self) {}
    }
    let file = [HEADER, &GOOD.repeat(3)].concat();
    let dir = folder(&[("events.csv", file.as_bytes()), ("items.csv", b"id\ni1\n")]);
    let list = || {
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = list();
    let seen = Seen::default();
    import(&Source { format: Format::Csv, path: dir.path().into() }, &key(), &seen).unwrap();
    assert_eq!(list(), before);
    let size = file.len() as u64;
    assert_eq!(seen.0.into_inner(), [("items.csv".into(), 6, 6), ("events.csv".into(), size, size)]);
}

proptest! {
    #[test]
    fn no_bytes_lose_a_row_or_panic(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b','), Just(b'"'), any::<u8>()], 0..400)) {
        let mut file = [HEADER, GOOD].concat().into_bytes();
        file.extend_from_slice(&bytes);
        let (data, report) = take(Format::Csv, &[("events.csv", &file)]);
        let lines = bytes.split(|b| *b == b'\n').count() as u64 - u64::from(bytes.is_empty() || bytes.ends_with(b"\n"));
        prop_assert_eq!(report.rows_read, 1 + lines);
        prop_assert!(!data.events.is_empty());
        let mut file = b"{}\n".to_vec();
        file.extend_from_slice(&bytes);
        prop_assert_eq!(take(Format::Jsonl, &[("events.jsonl", &file)]).1.rows_read, 1 + lines);
    }
}

#[test]
fn the_longest_line_is_still_read() {
    let padding = " ".repeat(MAX_LINE_BYTES - GOOD.trim().len());
    let (data, _) = take(Format::Csv, &[("events.csv", [HEADER, GOOD.trim(), &padding, "\n"].concat().as_bytes())]);
    assert_eq!((data.events.len(), data.events[0].item), (1, ItemIx(0)));
}
