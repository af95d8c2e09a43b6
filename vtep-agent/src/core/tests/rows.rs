//! Long tables in pieces.

use super::*;
use crate::core::{CommandError, PIECE, Piece, Rows};

const ROUTES: usize = 2 * PIECE + 100;

/// MACs in a row, in the order of the keys of their routes.
fn numbered(number: usize) -> Mac {
    Mac([2, 0, 1, 0, (number >> 8) as u8, number as u8])
}

fn fabric() -> Fixture {
    let mut fixture = Fixture::new();
    for number in (0..ROUTES).rev() {
        fixture.announce(rt2(V1, numbered(number), None, 0));
    }
    fixture
}

fn routes(fixture: &Fixture, bd: Option<&BdName>) -> Rows {
    let mut rows = fixture.core.route_rows(bd, HashSet::default()).unwrap();
    rows.sort();
    rows
}

/// The text of a piece, and how many keys it had.
fn tell(fixture: &Fixture, rows: &Rows) -> (usize, Vec<serde_json::Value>) {
    let piece = fixture.core.piece(rows, fixture.now);
    let json = serde_json::to_value(&piece).unwrap();
    (rows.len(), json.as_array().unwrap().clone())
}

/// No turn of the loop has to do with more than [`PIECE`] keys, and all of them are what the whole
/// table is, in its order.
#[test]
fn pieces_are_the_table() {
    let mut fixture = fabric();
    fixture.frame(TAP1, mac(9));
    let core = &fixture.core;
    let whole = [
        serde_json::to_value(core.routes(None, &HashSet::default()).unwrap()).unwrap(),
        serde_json::to_value(core.macs(None, fixture.now).unwrap()).unwrap(),
    ];
    let rows = [
        core.route_rows(None, HashSet::default()).unwrap(),
        core.mac_rows(None).unwrap(),
    ];
    for (whole, mut rows) in whole.into_iter().zip(rows) {
        rows.sort();
        let mut told = Vec::new();
        let mut work = Vec::new();
        while let Some(piece) = rows.take(PIECE) {
            let (keys, views) = tell(&fixture, &piece);
            work.push(keys);
            told.extend(views);
        }
        assert_eq!(work.len(), 3, "{work:?}");
        assert!(work.iter().all(|keys| *keys <= PIECE), "{work:?}");
        assert!(told.len() > ROUTES);
        assert_eq!(serde_json::Value::Array(told), whole);
    }
}

/// The table changes while it is told: rows are as they are when their turn comes.
#[test]
fn changes_between_pieces() {
    let mut fixture = fabric();
    let mut rows = routes(&fixture, None);
    let mut macs = fixture.core.mac_rows(None).unwrap();
    macs.sort();
    let _ = (rows.take(PIECE), macs.take(PIECE));
    fixture.withdraw(&rt2(V1, numbered(PIECE + 100), None, 0).0);
    fixture.announce(rt2(V2, numbered(PIECE + 101), None, 1));
    let (keys, told) = tell(&fixture, &rows.take(PIECE).unwrap());
    assert_eq!((keys, told.len()), (PIECE, PIECE - 1));
    let changed = format!("{}", numbered(PIECE + 101));
    let changed = told
        .iter()
        .find(|route| route["key"].as_str().unwrap().contains(&changed));
    // It moved: this route of the VTEP before is no longer used.
    assert!(changed.unwrap()["reason"].is_string());

    let mut config = config();
    config.bds.clear();
    fixture.command(Command::Reload(Box::new(config))).unwrap();
    let (_, told) = tell(&fixture, &macs.take(PIECE).unwrap());
    assert_eq!(told.len(), 0, "the bridge domain is gone");
    let (_, told) = tell(&fixture, &rows.take(PIECE).unwrap());
    assert!(!told.is_empty(), "what peers sent is kept");
}

/// With a bridge domain only what it imports and announces is visited.
#[test]
fn routes_of_a_bridge_domain() {
    let mut fixture = fabric();
    let (route, mut attributes) = rt2(V1, mac(7), None, 0);
    attributes.ext_communities = vec![RouteTarget::two_octet_as(65000, 777).into()];
    fixture.announce((route, attributes));
    let blue = name("blue");
    assert_eq!(routes(&fixture, None).len(), ROUTES + 2);
    // And its own type 3.
    assert_eq!(routes(&fixture, Some(&blue)).len(), ROUTES + 1);
    let shown = fixture
        .core
        .routes(Some(&blue), &HashSet::default())
        .unwrap();
    assert_eq!(shown.len(), ROUTES + 1);
    let unknown = fixture
        .core
        .route_rows(Some(&name("red")), HashSet::default());
    assert!(matches!(unknown, Err(CommandError::UnknownBd(_))));
    assert!(fixture.core.neighbor_rows(Some(&name("red"))).is_err());
    let mut rows = fixture.core.neighbor_rows(None).unwrap();
    rows.sort();
    assert!(rows.is_empty() && rows.take(PIECE).is_none());
    let Piece::Neighbors(none) = fixture.core.piece(&rows, fixture.now) else {
        panic!("neighbours");
    };
    assert!(none.is_empty());
}
