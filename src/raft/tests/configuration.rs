//! Configurations and names.

use super::*;

#[test]
fn settings_that_cannot_work_are_refused_with_the_remedy() {
    let ms = Duration::from_millis;
    let good = Config::new(n(1), 0, [n(1), n(2)]);
    assert!(good.validate().is_ok());
    let slow = Config { heartbeat: ms(100), ..good.clone() };
    assert!(slow.validate().unwrap_err().to_string().contains("lower --heartbeat"));
    let fixed = Config { election_timeout: ms(150)..=ms(150), ..good.clone() };
    assert!(fixed.validate().unwrap_err().to_string().contains("range"));
    assert!(matches!(Config { id: n(9), ..good }.validate(), Err(ConfigError::NotAMember(_))));
}

#[test]
fn a_node_id_is_short_printable_and_without_separators() {
    for good in ["n1", "raft-0.machine.svc", &"x".repeat(63)] {
        assert_eq!(good.parse::<NodeId>().unwrap().as_str(), good);
    }
    for bad in ["", "a b", "a=b", "a,b", "a/b", "ü", &"x".repeat(64)] {
        assert!(bad.parse::<NodeId>().is_err(), "{bad:?}");
    }
    assert!(n(1) < n(2) && n(1) < n(10), "in the order of their text");
}
