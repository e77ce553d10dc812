//! Rules as sentences, and whatever may happen to a few nodes on a faulty network.

mod network;
mod rules;

use proptest::prelude::*;

use super::{Config, Id, Rule};
use network::Network;

/// Some minutes of faults drawn from the seed, then peace. Nobody leads beside another one, and in the end all agree.
fn storm(seed: u64, nodes: u64, sticky: bool, rule: Rule) -> Result<(), TestCaseError> {
    let configure = |config: &mut Config| (config.quorum, config.sticky, config.rule) = (true, sticky, rule);
    let mut network = Network::started(nodes, seed, configure);
    (network.loss, network.delay, network.disk) = (network.draw(10), 1 + network.draw(300), 1 + network.draw(100));
    for _ in 0..40 {
        let (a, b) = (1 + network.draw(nodes), 1 + network.draw(nodes));
        match network.draw(8) {
            0 if network.machine(a).is_some() => network.crash(a),
            0 | 1 if network.machine(a).is_none() => network.start(a),
            2 if a == b => (1..=nodes).for_each(|other| network.cut(a, other)),
            2 => network.cut(a, b),
            3 => drop(network.cuts.insert((Id(a), Id(b)))),
            4 => network.cuts.clear(),
            5 => {
                let until = network.tick + network.draw(5000);
                network.nodes.get_mut(&Id(a)).unwrap().paused_until = until;
            }
            6 if network.machine(a).is_some() => network.ask(a, super::Command::Resign),
            _ => {}
        }
        let pause = network.draw(1500);
        network.run(pause);
        prop_assert_eq!(&network.broken, &None);
    }
    network.cuts.clear();
    (network.loss, network.delay, network.disk) = (0, 5, 5);
    for id in 1..=nodes {
        network.nodes.get_mut(&Id(id)).unwrap().paused_until = 0;
        if network.machine(id).is_none() {
            network.start(id);
        }
    }
    network.run(12_000);
    prop_assert_eq!(&network.broken, &None);
    prop_assert_eq!(network.followed().len(), 1, "all follow one: {:?}", network.followed());
    prop_assert_eq!(network.leaders().len(), 1);
    let best = if rule == Rule::Highest { nodes } else { 1 };
    prop_assert!(sticky || network.leaders() == [best], "{:?} lead, not {best}", network.leaders());
    prop_assert_eq!(network.commands().len(), 1, "its command runs");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_two_commands_run_at_once_whatever_fails_and_one_does_in_the_end(
        seed: u64,
        nodes in 1u64..=5,
        sticky: bool,
        lowest: bool,
    ) {
        storm(seed, nodes, sticky, if lowest { Rule::Lowest } else { Rule::Highest })?;
    }
}
