//! From a profile to the kernel's program (`linux/seccomp.h`, `linux/bpf_common.h`).

use super::profile::{Action, Argument, Operator, Profile, ProfileError, Rule};
use crate::shim::FilterStep as Step;
use std::str::FromStr;
use syscalls::Sysno;

/// The kernel takes no more (`BPF_MAXINSNS`).
const LONGEST: usize = 4096;

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;
/// Numbers from here on are calls of x32, whose pointers are short: another architecture with the same mark.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const EQUAL: u16 = 0x15;
const MORE: u16 = 0x25;
const AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Places in `struct seccomp_data`: the call's number, the architecture, six arguments of 64 bits.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

fn step(code: u16, k: u32) -> Step {
    Step { code, yes: 0, no: 0, k }
}

fn branch(code: u16, k: u32, yes: u8, no: u8) -> Step {
    Step { code, yes, no, k }
}

/// What the kernel is answered with.
fn answer(action: Action, errno: Option<u16>) -> Result<u32, ProfileError> {
    let errno = u32::from(errno.unwrap_or(libc::EPERM as u16));
    Ok(match action {
        Action::KillProcess => 0x8000_0000,
        Action::KillThread => 0,
        Action::Trap => 0x0003_0000,
        Action::Errno => 0x0005_0000 | errno,
        Action::Trace => 0x7ff0_0000 | errno,
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
        Action::Notify => return Err(ProfileError::Notify("SCMP_ACT_NOTIFY")),
    })
}

/// Makes the program. Calls that this architecture does not have are passed over, as every runtime does.
pub(crate) fn compile(profile: &Profile) -> Result<Vec<Step>, ProfileError> {
    let default = answer(profile.default_action, profile.default_errno_ret)?;
    // What comes by another architecture's way was never meant by the profile.
    let foreign = answer(Action::KillThread, None)?;
    let mut out = vec![step(LOAD, ARCHITECTURE), branch(EQUAL, ARCH, 1, 0), step(RETURN, foreign), step(LOAD, NUMBER)];
    #[cfg(target_arch = "x86_64")]
    out.extend([branch(AT_LEAST, X32, 0, 1), step(RETURN, foreign)]);
    for rule in &profile.syscalls {
        let told = answer(rule.action, rule.errno_ret)?;
        if told == default {
            continue;
        }
        for number in rule.names.iter().filter_map(|name| Sysno::from_str(name).ok()) {
            for arguments in alternatives(rule) {
                one(number.id() as u32, arguments, told, &mut out);
            }
        }
    }
    out.push(step(RETURN, default));
    if out.len() > LONGEST { Err(ProfileError::TooLong(out.len())) } else { Ok(out) }
}

/// Conditions on different arguments hold together; several on one argument are alternatives (as runc reads them).
fn alternatives(rule: &Rule) -> Vec<&[Argument]> {
    let twice = (1..rule.args.len()).any(|i| rule.args[..i].iter().any(|a| a.index == rule.args[i].index));
    if twice { rule.args.chunks(1).collect() } else { vec![&rule.args[..]] }
}

/// Answers one call if its arguments are such. The number is loaded before, and after if it goes on.
fn one(number: u32, arguments: &[Argument], told: u32, out: &mut Vec<Step>) {
    let mut body = Vec::new();
    let compared: Vec<Vec<Step>> = arguments.iter().map(compare).collect();
    // Where to go when a condition fails: behind the answer, where the number is loaded again.
    let length: usize = compared.iter().map(Vec::len).sum();
    let mut at = 0;
    for steps in compared {
        for mut step in steps {
            let fail = (length - at) as u8;
            if step.yes == FAIL {
                step.yes = fail;
            }
            if step.no == FAIL {
                step.no = fail;
            }
            body.push(step);
            at += 1;
        }
    }
    body.push(step(RETURN, told));
    if !arguments.is_empty() {
        body.push(step(LOAD, NUMBER));
    }
    // Six arguments are less than fifty steps: jumps of a byte reach.
    out.push(branch(EQUAL, number, 0, body.len() as u8));
    out.extend(body);
}

/// Stands for a jump to where the condition has failed.
const FAIL: u8 = u8::MAX;

/// The steps that compare an argument: they go on behind themselves when it holds. Numbers are compared by halves of 32
/// bits, the higher before the lower; on little-endian machines the lower lies first.
fn compare(argument: &Argument) -> Vec<Step> {
    let low = ARGUMENTS + u32::from(argument.index.min(5)) * 8;
    let high = low + 4;
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (h, l) = halves(argument.value);
    let ordered = |lower: u16, holds: bool| {
        // Higher half larger: more. Smaller: less. Equal: the lower half decides.
        let (more, less) = if holds { (3, FAIL) } else { (FAIL, 3) };
        let (yes, no) = if holds { (0, FAIL) } else { (FAIL, 0) };
        vec![
            step(LOAD, high),
            branch(MORE, h, more, 0),
            branch(EQUAL, h, 0, less_or_out(less)),
            step(LOAD, low),
            branch(lower, l, yes, no),
        ]
    };
    match argument.op {
        Operator::Equal => {
            vec![step(LOAD, high), branch(EQUAL, h, 0, FAIL), step(LOAD, low), branch(EQUAL, l, 0, FAIL)]
        }
        Operator::NotEqual => {
            vec![step(LOAD, high), branch(EQUAL, h, 0, 2), step(LOAD, low), branch(EQUAL, l, FAIL, 0)]
        }
        Operator::More => ordered(MORE, true),
        Operator::AtLeast => ordered(AT_LEAST, true),
        Operator::AtMost => ordered(MORE, false),
        Operator::Less => ordered(AT_LEAST, false),
        Operator::Masked => {
            let (wanted_high, wanted_low) = halves(argument.value_two);
            vec![
                step(LOAD, high),
                step(AND, h),
                branch(EQUAL, wanted_high, 0, FAIL),
                step(LOAD, low),
                step(AND, l),
                branch(EQUAL, wanted_low, 0, FAIL),
            ]
        }
    }
}

/// From the third of five steps the end is two further; what was counted from the second is one less.
fn less_or_out(target: u8) -> u8 {
    if target == FAIL { FAIL } else { target - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer.
    fn run(program: &[Step], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend_from_slice(&number.to_le_bytes());
        data.extend_from_slice(&arch.to_le_bytes());
        data.extend_from_slice(&[0; 8]);
        arguments.iter().for_each(|a| data.extend_from_slice(&a.to_le_bytes()));
        let (mut at, mut a) = (0, 0u32);
        loop {
            let step = &program[at];
            let holds = match step.code {
                LOAD => {
                    let place = step.k as usize;
                    a = u32::from_le_bytes(data[place..place + 4].try_into().unwrap());
                    None
                }
                AND => {
                    a &= step.k;
                    None
                }
                EQUAL => Some(a == step.k),
                MORE => Some(a > step.k),
                AT_LEAST => Some(a >= step.k),
                RETURN => return step.k,
                other => panic!("{other:#x}"),
            };
            at += 1 + match holds {
                Some(true) => usize::from(step.yes),
                Some(false) => usize::from(step.no),
                None => 0,
            };
        }
    }

    const ALLOW: u32 = 0x7fff_0000;
    const REFUSE: u32 = 0x0005_0000 | 1;

    fn profile(rules: &str) -> Profile {
        let text =
            format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":{rules}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn calls_are_answered_by_their_names() {
        let program = compile(&profile(
            r#"[{"names":["mkdir","mkdirat","no_such_call"],"action":"SCMP_ACT_ERRNO"},
                {"names":["getpid"],"action":"SCMP_ACT_ERRNO","errnoRet":38},
                {"names":["kexec_load"],"action":"SCMP_ACT_KILL_PROCESS"}]"#,
        ))
        .unwrap();
        let told = |number: libc::c_long| run(&program, ARCH, number as u32, [0; 6]);
        assert_eq!(told(libc::SYS_mkdirat), REFUSE);
        assert_eq!(told(libc::SYS_getpid), 0x0005_0000 | 38);
        assert_eq!(told(libc::SYS_kexec_load), 0x8000_0000);
        assert_eq!(told(libc::SYS_read), ALLOW);
        // By the way of 32 bits, and of x32.
        assert_eq!(run(&program, 0x4000_0003, libc::SYS_read as u32, [0; 6]), 0);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(run(&program, ARCH, X32 | libc::SYS_read as u32, [0; 6]), 0);
    }

    #[test]
    fn what_is_not_listed_has_the_default() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}"#;
        let program = compile(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(run(&program, ARCH, libc::SYS_read as u32, [0; 6]), ALLOW);
        assert_eq!(run(&program, ARCH, libc::SYS_write as u32, [0; 6]), REFUSE);
    }

    #[test]
    fn arguments_are_compared_in_all_their_bits() {
        let far = 5_u64 << 32 | 7;
        for (op, value, two, hits, misses) in [
            ("EQ", far, 0, &[far][..], &[7, far + 1, far + (1 << 32)][..]),
            ("NE", far, 0, &[7, far + 1, far + (1 << 32)], &[far]),
            ("GT", far, 0, &[far + 1, 6 << 32, u64::MAX], &[far, far - 1, 4 << 32 | 9, 9]),
            ("GE", far, 0, &[far, far + 1, 6 << 32], &[far - 1, 4 << 32 | 9, 9]),
            ("LT", far, 0, &[far - 1, 4 << 32 | 9, 9], &[far, far + 1, 6 << 32]),
            ("LE", far, 0, &[far, far - 1, 4 << 32 | 9, 9], &[far + 1, 6 << 32, u64::MAX]),
            (
                "MASKED_EQ",
                0xf0_u64 << 32 | 0xf,
                0x20_u64 << 32 | 3,
                &[0x21 << 32 | 0x13],
                &[0x21 << 32 | 4, 0x31 << 32 | 3],
            ),
        ] {
            let rule = format!(
                r#"[{{"names":["read"],"action":"SCMP_ACT_ERRNO",
                    "args":[{{"index":2,"value":{value},"valueTwo":{two},"op":"SCMP_CMP_{op}"}}]}},
                    {{"names":["write"],"action":"SCMP_ACT_ERRNO"}}]"#
            );
            let program = compile(&profile(&rule)).unwrap();
            let told = |argument: u64| run(&program, ARCH, libc::SYS_read as u32, [0, 0, argument, 0, 0, 0]);
            for hit in hits {
                assert_eq!(told(*hit), REFUSE, "{op} {hit:#x}");
            }
            for miss in misses {
                assert_eq!(told(*miss), ALLOW, "{op} {miss:#x}");
            }
            // The rules behind are reached, whatever was compared.
            assert_eq!(run(&program, ARCH, libc::SYS_write as u32, [0; 6]), REFUSE, "{op}");
        }
    }

    #[test]
    fn conditions_on_several_arguments_hold_together_and_on_one_are_alternatives() {
        let of = |second: u8| {
            let rule = format!(
                r#"[{{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[
                    {{"index":0,"value":1,"op":"SCMP_CMP_EQ"}},{{"index":{second},"value":2,"op":"SCMP_CMP_EQ"}}]}}]"#
            );
            compile(&profile(&rule)).unwrap()
        };
        let told =
            |program: &[Step], first, second| run(program, ARCH, libc::SYS_read as u32, [first, second, 0, 0, 0, 0]);
        let both = of(1);
        assert_eq!((told(&both, 1, 2), told(&both, 1, 3), told(&both, 3, 2)), (REFUSE, ALLOW, ALLOW));
        let either = of(0);
        assert_eq!((told(&either, 1, 0), told(&either, 2, 0), told(&either, 3, 0)), (REFUSE, REFUSE, ALLOW));
    }

    #[test]
    fn what_cannot_be_done_is_told() {
        let notify = profile(r#"[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]"#);
        assert!(matches!(compile(&notify), Err(ProfileError::Notify(_))));
        let long = format!("[{}]", vec![r#"{"names":["read"],"action":"SCMP_ACT_ERRNO"}"#; 3000].join(","));
        assert!(matches!(compile(&profile(&long)), Err(ProfileError::TooLong(_))));
        assert!(matches!(Profile::load(std::path::Path::new("/no/such")), Err(ProfileError::Read { .. })));
    }
}
