use super::*;

fn parse(body: &str) -> Result<Configuration, String> {
    let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
    Configuration::parse(&format!("{head}{body}")).map_err(|error| error.0)
}

#[test]
fn what_is_left_out_is_upstreams_default() {
    let config = parse("").unwrap();
    assert_eq!((config.parallelism, config.pod_initial_backoff_seconds, config.pod_max_backoff_seconds), (16, 1, 10));
    assert_eq!(config.profiles[0].scheduler_name.as_deref(), Some("default-scheduler"));
    assert_eq!(config.leader_election.lease_duration, Duration::seconds(15));
    let (args, wrong) = PluginArgs::read(&config.profiles[0].plugin_config);
    assert!(wrong.is_empty());
    assert_eq!(args.fit.scoring_strategy.unwrap().kind, "LeastAllocated");
    assert_eq!(args.spread.defaulting_type, "System");
}

#[test]
fn what_is_wrong_is_told_in_upstreams_words() {
    for (body, expected) in [
        ("parallelism: 0", "parallelism: Invalid value: 0: should be an integer value greater than zero"),
        ("percentageOfNodesToScore: 101", "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]"),
        ("podInitialBackoffSeconds: 0", "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0"),
        (
            "podMaxBackoffSeconds: 0",
            "podMaxBackoffSeconds: Invalid value: 0: must be greater than or equal to PodInitialBackoffSeconds",
        ),
        ("profiles: [{schedulerName: a}, {}]", "profiles[1].schedulerName: Required value"),
        (
            "profiles: [{schedulerName: a}, {schedulerName: a}]",
            "profiles[1].schedulerName: Duplicate value: \"profiles[0].schedulerName\"",
        ),
        (
            "profiles: [{pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: 101}}]}]",
            "profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]",
        ),
        (
            "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: Best}}}]}]",
            "profiles[0].pluginConfig[0].args.scoringStrategy.type: Unsupported value: \"Best\": supported values: \
             \"LeastAllocated\", \"MostAllocated\", \"RequestedToCapacityRatio\"",
        ),
        (
            "profiles: [{pluginConfig: [{name: PodTopologySpread, args: {defaultConstraints: [{maxSkew: 1, \
             topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]}}]}]",
            "profiles[0].pluginConfig[0].args.defaultingType: Invalid value: \"System\": when .defaultConstraints are \
             not empty",
        ),
        (
            "extenders: [{urlPrefix: 'http://x', prioritizeVerb: p}]",
            "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it",
        ),
        (
            "extenders: [{urlPrefix: 'http://x', filterVerb: f}]",
            "extenders: Forbidden: this scheduler does not call extenders",
        ),
    ] {
        assert_eq!(parse(body).map(drop), Err(expected.to_owned()), "{body}");
    }
    let several = parse("parallelism: 0\npercentageOfNodesToScore: -1").unwrap_err();
    assert!(several.starts_with("[parallelism: ") && several.ends_with(']'), "{several}");
    assert!(parse("paralelism: 1").unwrap_err().contains("unknown field `paralelism`"));
    assert!(Configuration::parse("kind: X").unwrap_err().0.contains("not KubeSchedulerConfiguration"));
}
