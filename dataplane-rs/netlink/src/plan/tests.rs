use super::*;
use crate::PROTOCOL;
use crate::testing::{ETH0, FLANNEL, actual_route, desired, devices, route};

const STATIC: u8 = 4;
const KERNEL: u8 = 2;

fn plan_routes(wanted: &[Route], actual: Vec<ActualRoute>) -> Plan<Route, ActualRoute> {
    let desired = desired(|state| state.routes = wanted.to_vec());
    routes(&desired, &devices(), actual)
}

#[test]
fn a_right_route_is_kept_whoever_made_it() {
    let wanted = route("10.1.1.0/24", "192.0.2.9", "eth0");
    for protocol in [PROTOCOL, STATIC] {
        let actual = actual_route("10.1.1.0/24", "192.0.2.9", ETH0, protocol);
        let plan = plan_routes(&[wanted], vec![actual]);
        assert_eq!((plan.kept, plan.put.len(), plan.remove.len()), (1, 0, 0));
    }
}

#[test]
fn a_missing_route_is_added_and_one_of_ours_replaced() {
    let wanted = route("10.1.1.0/24", "192.0.2.9", "eth0");
    let plan = plan_routes(&[wanted], Vec::new());
    let put = |replaces| Put {
        entry: wanted,
        index: Some(ETH0),
        replaces,
    };
    assert_eq!(plan.put, [put(false)]);
    let actual = actual_route("10.1.1.0/24", "192.0.2.8", ETH0, PROTOCOL);
    let plan = plan_routes(&[wanted], vec![actual]);
    assert_eq!(plan.put, [put(true)]);
    assert!(plan.remove.is_empty());
}

#[test]
fn another_programs_route_is_neither_replaced_nor_removed() {
    let wanted = route("10.1.1.0/24", "192.0.2.9", "eth0");
    let wrong = actual_route("10.1.1.0/24", "192.0.2.8", ETH0, STATIC);
    let other = actual_route("10.5.0.0/16", "192.0.2.8", ETH0, STATIC);
    let plan = plan_routes(&[wanted], vec![wrong, other]);
    assert!(plan.put.is_empty() && plan.remove.is_empty());
    assert_eq!(plan.errors[0].errno, libc::EEXIST);
    assert!(plan.errors[0].message.contains("via 192.0.2.8 dev eth0"));
}

#[test]
fn on_our_device_anything_unwanted_goes_but_the_kernels() {
    let foreign = actual_route("10.5.0.0/16", "10.5.0.0", FLANNEL, STATIC);
    let kernels = actual_route("10.6.0.0/16", "10.6.0.0", FLANNEL, KERNEL);
    let ours = actual_route("10.7.0.0/16", "192.0.2.7", ETH0, PROTOCOL);
    let plan = plan_routes(&[], vec![foreign.clone(), kernels, ours.clone()]);
    assert_eq!(plan.remove, [foreign, ours]);
}

#[test]
fn a_second_route_with_the_same_key_goes() {
    let wanted = route("10.1.1.0/24", "10.1.1.0", "flannel.1");
    let right = actual_route("10.1.1.0/24", "10.1.1.0", FLANNEL, PROTOCOL);
    let second = actual_route("10.1.1.0/24", "10.9.9.0", FLANNEL, PROTOCOL);
    let plan = plan_routes(&[wanted], vec![second.clone(), right]);
    assert_eq!((plan.kept, plan.put.len()), (1, 0));
    assert_eq!(plan.remove, [second]);
}

#[test]
fn ipv6_routes_have_the_kernels_default_metric() {
    let mut wanted = route("fd00:1::/64", "2001:db8::9", "eth0");
    let actual = actual_route("fd00:1::/64", "2001:db8::9", ETH0, PROTOCOL);
    assert_eq!(actual.key.metric, 1024);
    assert_eq!(plan_routes(&[wanted], vec![actual.clone()]).kept, 1);
    wanted.metric = Some(1024);
    assert_eq!(plan_routes(&[wanted], vec![actual.clone()]).kept, 1);
    wanted.metric = Some(7);
    let plan = plan_routes(&[wanted], vec![actual.clone()]);
    assert_eq!(plan.put.len(), 1);
    assert_eq!(plan.remove, [actual]);
}

#[test]
fn a_failed_link_is_said_once_and_a_missing_device_for_each_entry() {
    let desired = desired(|state| {
        state.routes = vec![
            route("10.1.1.0/24", "10.1.1.0", "flannel.1"),
            route("10.1.2.0/24", "192.0.2.9", "gone0"),
        ];
    });
    let mut devices = devices();
    let flannel = "flannel.1".parse().unwrap();
    devices.own.clear();
    devices.indices.remove(&flannel);
    devices.failed.insert(flannel);
    let plan = routes(&desired, &devices, Vec::new());
    assert!(plan.put.is_empty());
    assert_eq!(plan.errors.len(), 1);
    assert_eq!(plan.errors[0].errno, libc::ENODEV);
}

#[test]
fn contradicting_entries_are_told() {
    let desired = desired(|state| {
        state.routes = vec![
            route("10.1.1.0/24", "192.0.2.8", "eth0"),
            route("10.1.1.0/24", "192.0.2.9", "eth0"),
            route("10.1.1.0/24", "192.0.2.8", "eth0"),
        ];
    });
    assert_eq!(desired.routes.len(), 1);
    assert_eq!(desired.conflicts.len(), 1);
}

fn fdb_entry(mac: &str, dst: &str, permanent: bool) -> ActualFdb {
    ActualFdb {
        index: FLANNEL,
        mac: mac.parse().unwrap(),
        dst: Some(dst.parse().unwrap()),
        permanent,
        port: None,
        vni: None,
        via: None,
    }
}

#[test]
fn fdb_entries() {
    let (one, two) = ("02:00:00:00:00:11", "02:00:00:00:00:12");
    let desired = desired(|state| {
        state.fdb = vec![Fdb {
            dev: "flannel.1".parse().unwrap(),
            mac: one.parse().unwrap(),
            dst: "192.0.2.11".parse().unwrap(),
        }];
    });
    let right = fdb_entry(one, "192.0.2.11", true);
    let extra = fdb_entry(one, "192.0.2.12", true);
    let plan = fdb(&desired, &devices(), vec![extra.clone(), right]);
    assert_eq!((plan.kept, plan.put.len()), (1, 0));
    assert_eq!(plan.remove, std::slice::from_ref(&extra));

    let plan = fdb(&desired, &devices(), vec![extra]);
    assert_eq!((plan.kept, plan.put.len(), plan.remove.len()), (0, 1, 0));
    assert!(plan.put[0].replaces);

    let stale = fdb_entry(two, "192.0.2.12", true);
    let learned = fdb_entry("02:00:00:00:00:13", "192.0.2.12", false);
    let plan = fdb(&desired, &devices(), vec![stale.clone(), learned]);
    assert_eq!(plan.remove, [stale]);
}

#[test]
fn neighbours_learned_by_the_kernel_are_left_unless_wanted() {
    let ip = "10.1.1.0".parse().unwrap();
    let mac = "02:00:00:00:00:11".parse().unwrap();
    let desired = desired(|state| {
        state.neighbours = vec![Neighbour {
            dev: "flannel.1".parse().unwrap(),
            ip,
            mac,
        }];
    });
    let learned = |ip| ActualNeighbour {
        index: FLANNEL,
        ip,
        mac: Some(mac),
        permanent: false,
    };
    let actual = vec![learned(ip), learned("10.1.2.0".parse().unwrap())];
    let plan = neighbours(&desired, &devices(), actual);
    assert_eq!((plan.kept, plan.remove.len()), (0, 0));
    assert!(plan.put[0].replaces);
}
