use super::*;
use crate::links::{ActualVxlan, Details, Link};
use crate::message;
use crate::state::{Fdb, Route};
use crate::testing::{ETH0, FLANNEL, desired, route, vxlan};
use netlink_packet_route::link::LinkFlags;

const STATIC: u8 = 4;

fn link(index: u32, name: &str) -> ActualLink {
    ActualLink {
        index,
        name: name.parse().unwrap(),
        kind: String::new(),
        mac: None,
        mtu: 1500,
        flags: LinkFlags::Up | LinkFlags::LowerUp,
        owned: false,
        no_link_local: true,
        details: Details::default(),
    }
}

fn flannel() -> ActualLink {
    let wanted = vxlan();
    ActualLink {
        kind: "vxlan".to_string(),
        mac: Some(wanted.mac),
        mtu: wanted.mtu,
        owned: true,
        details: Details::Vxlan(ActualVxlan {
            vni: wanted.vni,
            local: Some(wanted.local),
            lower: Some(ETH0),
            port: wanted.port,
            ..ActualVxlan::default()
        }),
        ..link(FLANNEL, "flannel.1")
    }
}

fn judge() -> Judge {
    Judge::new(vec![link(ETH0, "eth0"), flannel()])
}

fn wanted() -> Desired {
    desired(|state| {
        state.routes = vec![
            route("10.1.1.0/24", "10.1.1.0", "flannel.1"),
            route("10.1.2.0/24", "192.0.2.9", "eth0"),
        ];
        state.fdb = vec![Fdb {
            dev: "flannel.1".parse().unwrap(),
            mac: "02:00:00:00:00:11".parse().unwrap(),
            dst: "192.0.2.11".parse().unwrap(),
        }];
    })
}

fn contradicts(message: Message) -> bool {
    judge().take(message, Some(&wanted()), |event| {
        assert_eq!(event, Event::Routes);
    })
}

/// Whether a notification is news of a foreign route.
fn tells_routes(message: Message) -> bool {
    let mut events = Vec::new();
    judge().take(message, None, |event| events.push(event));
    events == [Event::Routes]
}

#[test]
fn foreign_routes_are_news() {
    let some = route("198.51.100.0/24", "192.0.2.3", "eth0");
    assert!(tells_routes(added(&some, ETH0, STATIC)));
    assert!(tells_routes(gone(added(&some, ETH0, STATIC))));
    assert!(!tells_routes(added(&some, ETH0, *PROTOCOLS.end())));
}

fn added(route: &Route, index: u32, protocol: u8) -> Message {
    message::new_route(route, Some(index), protocol)
}

fn gone(message: Message) -> Message {
    match message {
        Message::NewRoute(message) => Message::DelRoute(message),
        Message::NewNeighbour(message) => Message::DelNeighbour(message),
        other => other,
    }
}

#[test]
fn routes() {
    let right = route("10.1.1.0/24", "10.1.1.0", "flannel.1");
    assert!(!contradicts(added(&right, FLANNEL, PROTOCOLS.start() + 1)));
    assert!(contradicts(gone(added(&right, FLANNEL, STATIC))));
    let elsewhere = route("10.1.1.0/24", "192.0.2.3", "eth0");
    assert!(contradicts(added(&elsewhere, ETH0, STATIC)));
    let unwanted = route("10.5.0.0/16", "10.5.0.0", "flannel.1");
    assert!(contradicts(added(&unwanted, FLANNEL, STATIC)));
    assert!(!contradicts(gone(added(&unwanted, FLANNEL, STATIC))));
    assert!(!contradicts(added(&unwanted, ETH0, STATIC)));
    assert!(contradicts(added(&unwanted, ETH0, *PROTOCOLS.end())));
}

#[test]
fn fdb() {
    let mac = "02:00:00:00:00:11".parse().unwrap();
    let right = "192.0.2.11".parse().unwrap();
    assert!(!contradicts(message::new_fdb(FLANNEL, mac, right)));
    assert!(contradicts(gone(message::new_fdb(FLANNEL, mac, right))));
    let wrong = "192.0.2.12".parse().unwrap();
    assert!(contradicts(message::new_fdb(FLANNEL, mac, wrong)));
    assert!(!contradicts(gone(message::new_fdb(FLANNEL, mac, wrong))));
    assert!(!contradicts(message::new_fdb(ETH0, mac, wrong)));
}

#[test]
fn links() {
    let wanted = wanted();
    let quiet = |event| panic!("{event:?}");
    assert!(!judge().link_seen(flannel(), Some(&wanted), &mut { quiet }));
    let mut wrong = flannel();
    wrong.mtu = 1400;
    assert!(judge().link_seen(wrong, Some(&wanted), &mut { quiet }));
    assert!(judge().link_gone(FLANNEL, Some(&wanted), &mut { quiet }));

    let mut events = Vec::new();
    let mut lower = link(ETH0, "eth0");
    lower.flags = LinkFlags::empty();
    assert!(judge().link_seen(lower, Some(&wanted), &mut |event| events.push(event)));
    let other = link(9, "other");
    assert!(!judge().link_seen(other, Some(&wanted), &mut |event| events.push(event)));
    let event = |name: &str, up| Event::Link {
        name: name.to_string(),
        up,
        mtu: 1500,
        present: true,
    };
    assert_eq!(events, [event("eth0", false), event("other", true)]);
}

#[test]
fn a_rename_is_a_going_and_a_coming() {
    let mut judge = judge();
    let mut events = Vec::new();
    let renamed = link(ETH0, "wan0");
    assert!(judge.link_seen(renamed, Some(&wanted()), &mut |event| events.push(event)));
    assert_eq!(events.len(), 2);
}

#[test]
fn our_own_device_is_right_as_it_is_made() {
    assert!(is_right(&Link::Vxlan(vxlan()), &judge().links));
}

#[test]
fn default_routes_of_the_main_table_are_told() {
    let mut judge = judge();
    let told = |judge: &mut Judge, table: u8, len: u8| {
        let mut message = RouteMessage::default();
        message.header.address_family = netlink_packet_route::AddressFamily::Inet;
        message.header.table = table;
        message.header.destination_prefix_length = len;
        let mut events = Vec::new();
        for message in [
            Message::NewRoute(message.clone()),
            Message::DelRoute(message),
        ] {
            judge.take(message, None, |event| {
                // Any route's news, see `foreign_routes_are_news`.
                if event != Event::Routes {
                    events.push(event);
                }
            });
        }
        events
    };
    assert_eq!(
        told(&mut judge, 254, 0),
        [Event::DefaultRoute, Event::DefaultRoute]
    );
    assert_eq!(told(&mut judge, 254, 24), []);
    assert_eq!(told(&mut judge, 51, 0), []);
}
