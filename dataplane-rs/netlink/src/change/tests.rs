use super::*;
use crate::testing::{ETH0, FLANNEL, desired, devices, route};

fn peer(subnet: &str, mac: &str, dst: &str) -> Entries {
    let dev: DevName = "flannel.1".parse().unwrap();
    let (ip, mac): (IpAddr, Mac) = (subnet.parse().unwrap(), mac.parse().unwrap());
    Entries {
        routes: vec![route(&format!("{subnet}/24"), subnet, "flannel.1")],
        neighbours: vec![Neighbour { dev, ip, mac }],
        fdb: vec![Fdb {
            dev,
            mac,
            dst: dst.parse().unwrap(),
        }],
    }
}

fn with(entries: &Entries) -> Desired {
    desired(|state| {
        state.routes.clone_from(&entries.routes);
        state.neighbours.clone_from(&entries.neighbours);
        state.fdb.clone_from(&entries.fdb);
    })
}

const MAC: &str = "02:00:00:00:00:02";

#[test]
fn a_peer_comes_and_goes() {
    let one = peer("10.1.2.0", MAC, "192.0.2.2");
    let mut state = desired(|_| {});
    let come = Change {
        put: one.clone(),
        remove: Entries::default(),
    };
    assert!(state.take(&come));
    assert_eq!(
        (state.routes.len(), state.neighbours.len(), state.fdb.len()),
        (1, 1, 1)
    );
    assert!(!state.take(&come), "it is there already");
    let tables = plan(&come, &devices()).unwrap();
    assert_eq!(tables.routes.put[0].index, Some(FLANNEL));
    assert!(!tables.fdb.put[0].replaces);
    let go = Change {
        put: Entries::default(),
        remove: one,
    };
    assert!(state.take(&go));
    assert!(state.routes.is_empty() && state.neighbours.is_empty() && state.fdb.is_empty());
    assert!(!state.take(&go), "it is gone already");
    let tables = plan(&go, &devices()).unwrap();
    assert_eq!(tables.fdb.remove.len(), 1);
    assert_eq!(tables.routes.remove[0].protocol, 0, "whatever it has");
}

#[test]
fn another_mac_replaces_the_neighbour_and_removes_the_old_entry() {
    let before = peer("10.1.2.0", MAC, "192.0.2.2");
    let mut after = peer("10.1.2.0", "02:00:00:00:00:03", "192.0.2.2");
    after.routes.clear();
    let mut remove = before.clone();
    remove.routes.clear();
    let change = Change { put: after, remove };
    let mut state = with(&before);
    assert!(state.take(&change));
    let tables = plan(&change, &devices()).unwrap();
    assert!(tables.neighbours.put[0].replaces);
    assert!(tables.neighbours.remove.is_empty());
    assert_eq!((tables.fdb.put.len(), tables.fdb.remove.len()), (1, 1));
}

#[test]
fn what_is_anothers_place_is_not_taken() {
    let before = peer("10.1.2.0", MAC, "192.0.2.2");
    let mut state = with(&before);
    let other = peer("10.1.3.0", MAC, "192.0.2.3");
    let change = Change {
        put: other,
        remove: Entries::default(),
    };
    assert!(!state.take(&change));
    assert_eq!(state.routes.len(), 1, "nothing of it");
}

#[test]
fn a_route_in_anothers_place_needs_a_look() {
    let change = |via| Entries {
        routes: vec![route("10.1.2.0/24", via, "eth0")],
        ..Entries::default()
    };
    let change = Change {
        put: change("192.0.2.3"),
        remove: change("192.0.2.2"),
    };
    assert!(plan(&change, &devices()).is_none());
}

#[test]
fn elsewhere_only_routes_with_our_numbers_go() {
    let change = Change {
        put: Entries::default(),
        remove: Entries {
            routes: vec![route("10.1.2.0/24", "192.0.2.2", "eth0")],
            ..Entries::default()
        },
    };
    let tables = plan(&change, &devices()).unwrap();
    for route in &tables.routes.remove {
        assert!(crate::PROTOCOLS.contains(&route.protocol));
        assert!(route.is_on(|index| index == ETH0));
    }
}

#[test]
fn an_unknown_device_needs_a_look() {
    let change = Change {
        put: Entries {
            routes: vec![route("10.1.2.0/24", "192.0.2.2", "eth9")],
            ..Entries::default()
        },
        remove: Entries::default(),
    };
    assert!(plan(&change, &devices()).is_none());
}
