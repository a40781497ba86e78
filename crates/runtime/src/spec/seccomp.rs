//! Seccomp: which system calls a container may make.
//!
//! The default profile (`RuntimeDefault`) allows what programs need and what the kernel guards by itself, adds what the
//! container's capabilities are for, and answers EPERM to the rest, as the usual container engines do.

use cri::v1::{LinuxContainerSecurityContext, security_profile::ProfileType};
use serde_json::{Value, json};

/// Files, folders, links, attributes and what is read from and written to them.
const FILES: &str = "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat \
    faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl \
    fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 \
    fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat ioctl lchown lchown32 \
    lgetxattr link linkat listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir \
    mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 \
    pwritev pwritev2 read readahead readlink readlinkat readv removexattr removexattrat rename renameat renameat2 \
    rmdir sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 statx symlink symlinkat sync \
    sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes \
    vmsplice write writev";

/// Waiting for files and others.
const EVENTS: &str = "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
    epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch \
    io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect poll ppoll \
    ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4";

/// Memory.
const MEMORY: &str = "brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 \
    mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect \
    process_mrelease remap_file_pages";

/// Processes and threads: their life, identity, limits, scheduling and signals.
const PROCESSES: &str = "alarm capget capset execve execveat exit exit_group fork futex futex_requeue futex_time64 \
    futex_wait futex_waitv futex_wake getcpu getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 \
    getitimer getpgid getpgrp getpid getppid getpriority getresgid getresgid32 getresuid getresuid32 getrlimit \
    get_robust_list getrusage getsid get_thread_area gettid getuid getuid32 ioprio_get ioprio_set kill \
    landlock_add_rule landlock_create_ruleset landlock_restrict_self nanosleep pause pidfd_open pidfd_send_signal \
    prctl prlimit64 process_vm_readv process_vm_writev ptrace restart_syscall rseq rt_sigaction rt_sigpending \
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 \
    rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min \
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr \
    sched_setparam sched_setscheduler sched_yield seccomp setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 \
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid \
    setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid set_thread_area set_tid_address setuid setuid32 \
    sigaltstack sigprocmask sigreturn tgkill tkill ugetrlimit uretprobe vfork wait4 waitid waitpid";

/// Clocks and timers.
const TIME: &str = "adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 gettimeofday time timer_create timer_delete \
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime \
    timerfd_gettime64 timerfd_settime timerfd_settime64 times";

/// Sockets, but for making one.
const SOCKETS: &str = "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg \
    recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair";

/// System V and POSIX communication between processes.
const IPC: &str = "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend \
    mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat \
    shmctl shmdt shmget";

/// The machine and its mounts, read only.
const MACHINE: &str = "getrandom listmount statmount sysinfo uname";

/// Of single processor families.
const PROCESSORS: &str = "arch_prctl arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush modify_ldt \
    riscv_flush_icache riscv_hwprobe s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr set_tls swapcontext \
    sync_file_range2";

/// What a capability is for; without it these are refused before the kernel looks at them.
const OF_CAPABILITIES: [(&str, &str); 14] = [
    ("CAP_BPF", "bpf"),
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_PERFMON", "perf_event_open"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules \
         lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    (
        "CAP_SYS_NICE",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYSLOG", "syslog"),
];

/// Flags of clone that make namespaces: mount, cgroup, UTS, IPC, user, PID and network.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Personalities that change nothing of weight: Linux, its 32-bit kin, both with an old uname, and asking for it.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Families of sockets that reach beyond the pod's network, or deep into the kernel: AF_ALG and AF_VSOCK.
const SOCKETS_REFUSED: [u64; 2] = [38, 40];

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The profile file that a container asks for, if it asks for one of its own.
pub(crate) fn localhost(security: &LinuxContainerSecurityContext) -> Option<&str> {
    let profile = security.seccomp.as_ref()?;
    let is_own = profile.profile_type() == ProfileType::Localhost && !security.privileged;
    is_own.then_some(profile.localhost_ref.trim_start_matches("localhost/"))
}

/// The profile for `linux.seccomp`: the default one, `own` if the container brings one, or none.
pub(super) fn profile(
    security: &LinuxContainerSecurityContext,
    capabilities: &[String],
    own: Option<&Value>,
) -> Option<Value> {
    // Kubernetes: nothing is kept from a privileged container.
    let wanted = security.seccomp.as_ref().filter(|_| !security.privileged)?;
    match wanted.profile_type() {
        ProfileType::RuntimeDefault => Some(default_profile(capabilities)),
        ProfileType::Unconfined => None,
        ProfileType::Localhost => own.cloned(),
    }
}

fn default_profile(capabilities: &[String]) -> Value {
    let has = |name: &str| capabilities.iter().any(|capability| capability == name);
    let always = [
        FILES, EVENTS, MEMORY, PROCESSES, TIME, SOCKETS, IPC, MACHINE, PROCESSORS,
    ];
    let granted = OF_CAPABILITIES.iter().filter(|(name, _)| has(name));
    let mut names: Vec<&str> = always
        .into_iter()
        .chain(granted.map(|(_, calls)| *calls))
        .flat_map(str::split_whitespace)
        .collect();
    names.sort_unstable();
    names.dedup();
    let allow = |names: Value, args: Value| json!({"names": names, "action": "SCMP_ACT_ALLOW", "args": args});
    let mut rules = vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
    rules.extend(PERSONALITIES.map(|value| {
        allow(
            json!(["personality"]),
            json!([{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]),
        )
    }));
    let (first, last) = (SOCKETS_REFUSED[0], SOCKETS_REFUSED[1]);
    for (value, op) in [
        (first, "SCMP_CMP_LT"),
        (first + 1, "SCMP_CMP_EQ"),
        (last, "SCMP_CMP_GT"),
    ] {
        rules.push(allow(
            json!(["socket"]),
            json!([{"index": 0, "value": value, "op": op}]),
        ));
    }
    if !has("CAP_SYS_ADMIN") {
        // The flags are the second argument on s390x only.
        let index = usize::from(cfg!(target_arch = "s390x"));
        let args = json!([{"index": index, "value": CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]);
        rules.push(allow(json!(["clone"]), args));
        // Its flags are behind a pointer; C libraries go on with clone if the kernel does not have it.
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": architectures(),
        "syscalls": rules,
    })
}

/// The processor's own calls, and those of its older kin that the kernel may run as well.
fn architectures() -> &'static [&'static str] {
    match std::env::consts::ARCH {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "s390x" => &["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
        "riscv64" => &["SCMP_ARCH_RISCV64"],
        "powerpc64" => &["SCMP_ARCH_PPC64LE"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cri::v1::SecurityProfile;

    fn context(type_: ProfileType, privileged: bool) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            privileged,
            seccomp: Some(SecurityProfile {
                profile_type: type_.into(),
                localhost_ref: "/profiles/own.json".to_owned(),
            }),
            ..LinuxContainerSecurityContext::default()
        }
    }

    /// Whether a call is allowed whatever its arguments.
    fn allows(profile: &Value, call: &str) -> bool {
        let rules = profile["syscalls"].as_array().expect("rules");
        rules.iter().any(|rule| {
            let names = rule["names"].as_array().expect("names");
            rule["action"] == "SCMP_ACT_ALLOW" && rule["args"].is_null() && names.contains(&json!(call))
        })
    }

    #[test]
    fn capabilities_open_what_they_are_for() {
        let with = |capabilities: &[&str]| {
            let capabilities: Vec<String> = capabilities.iter().map(|name| (*name).to_owned()).collect();
            profile(&context(ProfileType::RuntimeDefault, false), &capabilities, None).expect("a profile")
        };
        let plain = with(&["CAP_CHOWN"]);
        for (call, expected) in [
            ("openat", true),
            ("mount", false),
            ("chroot", false),
            ("clone", false),
            ("bpf", false),
        ] {
            assert_eq!(allows(&plain, call), expected, "{call}");
        }
        let admin = with(&["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"]);
        for call in ["mount", "chroot", "clone", "clone3"] {
            assert!(allows(&admin, call), "{call}");
        }
    }

    #[test]
    fn who_gets_which() {
        let own = json!({"defaultAction": "SCMP_ACT_LOG"});
        let of = |type_, privileged| profile(&context(type_, privileged), &[], Some(&own));
        assert_eq!(of(ProfileType::Unconfined, false), None);
        assert_eq!(of(ProfileType::RuntimeDefault, true), None);
        assert_eq!(of(ProfileType::Localhost, false), Some(own.clone()));
        assert_eq!(profile(&LinuxContainerSecurityContext::default(), &[], None), None);
        assert_eq!(
            localhost(&context(ProfileType::Localhost, false)),
            Some("/profiles/own.json")
        );
        assert_eq!(localhost(&context(ProfileType::RuntimeDefault, false)), None);
    }
}
