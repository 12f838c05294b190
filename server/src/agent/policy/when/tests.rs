use std::collections::HashMap;

use super::super::tests::with;
use super::*;
use crate::agent::policy::{Access, Ruling};

const ALL: [Scenario; 9] = [
    Scenario::Operations,
    Scenario::Upgrade,
    Scenario::Fix,
    Scenario::Refactor,
    Scenario::Test,
    Scenario::Docs,
    Scenario::Feature,
    Scenario::Question,
    Scenario::Other,
];
const RISKS: [Risk; 3] = [Risk::Low, Risk::Medium, Risk::High];

const RULES: &str = r#"
[limits]
tokens = 90000

[[when]]
scenario = ["docs", "question"]
mode = "plan"
limits = { steps = 10, tokens = 500000 }
quotas = { search = 2 }

[[when.path]]
glob = "src/**"
decision = "deny"
why = "the docs are elsewhere"

[[when.command]]
run = ["ls"]
decision = "ask"

[[when]]
risk = ["high"]
limits = { steps = 5 }
quotas = { run = 1 }

[[when]]
scenario = ["operations"]
risk = ["medium", "high"]
deny = "a person deploys"
"#;

fn narrowed(who: &str, rules: &str, scenario: Scenario, risk: Risk) -> Policy {
    let policy = with(&[(who, rules)]).unwrap();
    policy.narrowed(Taken { scenario, risk })
}

#[test]
fn rules_hold_for_the_kinds_of_tasks_they_name() {
    // scenario risk: mode of an asked auto, steps, tokens, writing src, `ls`, calls of run and search
    // that are too many, scope
    let rows = "
docs low: plan 10 90000 deny ask - search in
docs high: plan 5 90000 deny ask run search in
question medium: plan 10 90000 deny ask - search in
fix medium: auto 50 90000 allow allow - - in
fix high: auto 5 90000 allow allow run - in
operations low: auto 50 90000 allow allow - - in
operations medium: auto 50 90000 allow allow - - out
operations high: auto 5 90000 allow allow run - out
";
    for who in ["organisation", "user", "repository", "task"] {
        let mut found = String::from("\n");
        for (scenario, risk) in [
            (Scenario::Docs, Risk::Low),
            (Scenario::Docs, Risk::High),
            (Scenario::Question, Risk::Medium),
            (Scenario::Fix, Risk::Medium),
            (Scenario::Fix, Risk::High),
            (Scenario::Operations, Risk::Low),
            (Scenario::Operations, Risk::Medium),
            (Scenario::Operations, Risk::High),
        ] {
            let policy = narrowed(who, RULES, scenario, risk);
            let ceilings = policy.ceilings(&Limits::default());
            let name = |ruling| format!("{ruling:?}").to_lowercase();
            let calls: HashMap<String, u32> = [("run", 1), ("search", 2)]
                .map(|(tool, n)| (tool.to_owned(), n))
                .into();
            let over = |tool: &'static str| policy.judge_quota(tool, &calls).map_or("-", |_| tool);
            found.push_str(&format!(
                "{} {}: {} {} {} {} {} {} {} {}\n",
                scenario.name(),
                risk.name(),
                policy.at_most(Mode::Auto).0.name(),
                ceilings.steps,
                ceilings.tokens,
                name(policy.judge_path(Access::Write, "src/a.rs", &[]).ruling),
                name(policy.judge_line("ls", &[]).ruling),
                over("run"),
                over("search"),
                if policy.out_of_scope().is_some() {
                    "out"
                } else {
                    "in"
                },
            ));
        }
        assert_eq!(found, rows, "{who}");
    }
    let policy = narrowed("user", RULES, Scenario::Operations, Risk::High);
    let why = policy.out_of_scope().unwrap();
    assert!(
        why.starts_with("a person deploys (tasks of high risk taken for operations"),
        "{why}"
    );
}

/// Whatever a task is taken for, it may do no more than the rules for all tasks let it.
#[test]
fn nothing_a_task_is_taken_for_widens_what_it_may_do() {
    let base = "[limits]\nsteps = 20\n[quotas]\nrun = 3\n[[path]]\nglob = \"a/**\"\ndecision = \"deny\"\nwhy = \"no\"\n";
    let wide = r#"
[[when]]
risk = ["low", "medium", "high"]
limits = { steps = 9000, tokens = 9000000, wall_seconds = 90000, cost = 1000.0, output_bytes = 1000000000 }
quotas = { run = 900 }
mode = "review"
"#;
    let rules = format!("{base}{wide}");
    let before = with(&[("user", base)]).unwrap();
    let calls: HashMap<String, u32> = [("run".to_owned(), 3)].into();
    let asked = [
        Limits::default(),
        Limits {
            steps: Some(5),
            ..Limits::default()
        },
    ];
    for (scenario, risk) in ALL.iter().flat_map(|s| RISKS.map(|r| (*s, r))) {
        let after = narrowed("user", &rules, scenario, risk);
        for asked in &asked {
            let (before, after) = (before.ceilings(asked), after.ceilings(asked));
            // Without a rule there was no ceiling of cost.
            assert_eq!(after.cost, Some(1000.0));
            assert_eq!(
                Ceilings {
                    cost: None,
                    ..after
                },
                before
            );
        }
        assert!(after.judge_quota("run", &calls).is_some());
        let verdict = after.judge_path(Access::Write, "a/b", &[]);
        assert_eq!(verdict.ruling, Ruling::Deny);
        for mode in [Mode::ReadOnly, Mode::Plan, Mode::Review, Mode::Auto] {
            assert!(after.at_most(mode).0 <= mode);
        }
    }
}

#[test]
fn a_ceiling_for_some_tasks_holds_against_what_is_asked_for() {
    let rules = "[[when]]\nscenario = [\"fix\"]\nlimits = { steps = 60 }\n";
    let asked = Limits {
        steps: Some(100),
        ..Limits::default()
    };
    let policy = narrowed("user", rules, Scenario::Fix, Risk::Low);
    assert_eq!(policy.ceilings(&asked).steps, 60);
    let policy = narrowed("user", rules, Scenario::Docs, Risk::Low);
    assert_eq!(policy.ceilings(&asked).steps, 100);
}

#[test]
fn rules_for_some_tasks_that_do_not_tighten_stop_everything() {
    for (text, expected) in [
        ("[[when]]\ndeny = \"no\"\n", "needs `scenario` or `risk`"),
        (
            "[[when]]\nscenario = [\"dogs\"]\n",
            "unknown variant `dogs`",
        ),
        (
            "[[when]]\nrisk = [\"high\"]\nmode = \"auto\"\n",
            "takes nothing away",
        ),
        (
            "[[when]]\nrisk = [\"high\"]\nmodes = [\"auto\"]\n",
            "unknown field `modes`",
        ),
        (
            "[[when]]\nrisk = [\"high\"]\n[[when.command]]\nrun = [\"rm\"]\ndecision = \"allow\"\n",
            "the rule for `rm` under `[[when]]` allows",
        ),
        (
            "[[when]]\nrisk = [\"high\"]\n[[when.path]]\nglob = \"x\"\ndecision = \"deny\"\n",
            "needs `why`",
        ),
        (
            "[[when]]\nrisk = [\"high\"]\nquotas = { \"*\" = 1 }\n",
            "the tool `finish`",
        ),
        (
            "[[when]]\nrisk = [\"high\"]\nlimits = { steps = 0 }\n",
            "`steps` must be more than 0",
        ),
    ] {
        for who in ["user", "repository"] {
            let why = with(&[(who, text)]).unwrap_err().to_string();
            assert!(why.contains(expected), "{text}: {why}");
        }
    }
}
