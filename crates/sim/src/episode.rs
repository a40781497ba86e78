//! One life of a cluster, from a seed.

use std::sync::Arc;
use std::time::Duration;

use apiserver::{ApiServer, User, in_process};
use futures::future::BoxFuture;
use kube::Client;
use serde_json::Value;
use store::Store;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;
use crate::check::{Checkers, image_of, is_ready};
use crate::dawn;
use crate::entropy;
use crate::link::Link;
use crate::node;
use crate::user::{self, NAMES};
use crate::world::{DAWN, Faults, Given, NODES, Who, World};

/// After so long without any write, the cluster counts as quiet: longer than any pause of a control loop.
const QUIET: Duration = Duration::from_secs(70);

/// A cluster without faults must have come to rest by then.
const PATIENCE: Duration = Duration::from_secs(900);

/// How often the user looks after the cluster in the end.
const ROUND: Duration = Duration::from_secs(60);

/// What makes an episode: a seed, and what of its doings is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Episode {
    /// The seed.
    pub seed: u64,
    /// Which of the user's deeds do not happen, by number.
    pub left_out: Vec<usize>,
    /// Which faults do not happen, by name.
    pub without: Vec<String>,
    /// Whether the trace is kept.
    pub with_trace: bool,
}

/// What came of an episode.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was found wrong; nothing if all is well.
    pub violations: Vec<String>,
    /// Changes, writes, faults and deeds.
    pub steps: u64,
    /// The same for the same episode, step by step.
    pub digest: u64,
    /// What happened, if it was kept.
    pub trace: Vec<String>,
    /// How many deeds the seed has, left out or not.
    pub deeds: usize,
}

/// Lives through an episode.
///
/// It can be run again only in a process that is in the same state ([`crate::forked`]): tokio counts the runtimes of a
/// process, and goes by that count when it wakes several waiters.
///
/// # Panics
/// If the runtime cannot be built, or what is simulated panics.
pub fn run(episode: &Episode) -> Outcome {
    alone(episode.seed, || live(episode))
}

/// Makes what a process makes once, so that processes that are forked from this one have it: the first state of a
/// cluster, and whatever an episode needs.
///
/// # Panics
/// As [`run`].
pub fn warm_up() {
    alone(0, dawn::prepare);
    run(&Episode::default());
}

/// On a thread that is new, for what is random per thread must be of the seed from the beginning.
fn alone<T: Send, F: Future<Output = T>>(seed: u64, work: impl FnOnce() -> F + Send) -> T {
    let work = || {
        entropy::fix(seed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O needs nothing from the system");
        fastrand::seed(seed);
        runtime.block_on(async {
            let given = Given {
                chance: Chance::of(seed, "names"),
                dawn: DAWN.parse().expect("a time"),
                began: Instant::now(),
                asked: 0,
            };
            let _taken = ambient::take_over(given);
            work().await
        })
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(work);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

async fn live(episode: &Episode) -> Outcome {
    let seed = episode.seed;
    let mut chance = Chance::of(seed, "user");
    let mut manifests: Vec<Value> = NAMES.iter().map(|name| user::manifest(name, &mut chance)).collect();
    let mut variants = Chance::of(seed, "variants");
    manifests
        .iter_mut()
        .for_each(|manifest| user::vary(manifest, &mut variants));
    let mut deeds = user::deeds(&mut chance);
    let deed_count = deeds.len();
    let mut number = 0..;
    deeds.retain(|_| !number.next().is_some_and(|number| episode.left_out.contains(&number)));
    let faults = Faults::of(&mut Chance::of(seed, "strengths")).without(&episode.without);
    let store = Arc::new(dawn::store());
    let beginning = store.revision().await.expect("a store in memory answers");
    let watch = store.watch("/registry/", beginning).await;
    let watch = watch.expect("the present can be watched");
    let config = apiserver::Config::default();
    let server = ApiServer::new(store, config)
        .await
        .expect("its own first state is fine");
    let world = World::new(seed, faults, Checkers::new(watch), episode.with_trace);
    let mut tasks = JoinSet::new();
    populate(&mut tasks, &world, &server, seed);
    let client = client(&world, &server, Who::User);
    let life = async {
        user::begin(&client, &manifests).await;
        user::trouble(&world, &client, &manifests, &deeds).await;
        settle(&world, &client, &manifests).await;
    };
    tokio::select! {
        biased;
        () = world.has_enough() => {}
        () = life => {}
    }
    tasks.shutdown().await;
    let mut belated = std::mem::take(&mut world.lock().belated);
    belated.shutdown().await;
    let mut state = world.lock();
    Outcome {
        violations: std::mem::take(&mut state.checkers.violations),
        steps: state.steps,
        digest: state.digest,
        trace: state.trace.take().unwrap_or_default(),
        deeds: deed_count,
    }
}

fn client(world: &World, server: &ApiServer, who: Who) -> Client {
    let user = User::new(format!("{who:?}"), ["system:masters", "system:authenticated"]);
    let link = Link {
        who,
        server: in_process(server.router(), user),
        world: world.clone(),
    };
    Client::new(link, "default")
}

/// Starts every component; each is started again after it has died.
fn populate(tasks: &mut JoinSet<()>, world: &World, server: &ApiServer, seed: u64) {
    let everybody = (0..NODES).map(Who::Node).chain([Who::Controllers, Who::Scheduler]);
    for who in everybody {
        let (world, server) = (world.clone(), server.clone());
        tasks.spawn(async move {
            loop {
                let life = component(&world, who, client(&world, &server, who), seed);
                tokio::select! {
                    biased;
                    () = world.crashed(who) => {}
                    () = life => {
                        let at = world.elapsed();
                        world.lock().checkers.blame(at, format!("{who:?} has ended by itself"));
                    }
                }
                world.tell(|| format!("{who:?} is dead"));
                let pause = world.lock().chance.up_to(Duration::from_secs(5));
                tokio::time::sleep(pause).await;
                while matches!(who, Who::Node(node) if world.is_powerless(node)) {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                world.tell(|| format!("{who:?} is started again"));
            }
        });
    }
}

fn component(world: &World, who: Who, client: Client, seed: u64) -> BoxFuture<'static, ()> {
    let never = CancellationToken::new();
    let world = world.clone();
    match who {
        Who::Controllers => Box::pin(async move {
            let ended = controllers::run(client, controllers::Config::default(), never).await;
            world.tell(|| format!("the controllers ended: {ended:?}"));
        }),
        Who::Scheduler => Box::pin(async move {
            let ended = scheduler::run(client, never).await;
            world.tell(|| format!("the scheduler ended: {ended:?}"));
        }),
        Who::Node(node) => Box::pin(node::run(world, node, client, seed)),
        Who::User => Box::pin(std::future::pending()),
    }
}

/// Invariant 7: when the faults have stopped, the cluster becomes what its sets say, and quiet.
async fn settle(world: &World, client: &Client, manifests: &[Value]) {
    world.tell(|| "the faults stop".to_owned());
    {
        let mut state = world.lock();
        state.faults = Faults::NONE;
        state.cut_off.clear();
        state.powerless.clear();
    }
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        user::heal(world, client, manifests).await;
        tokio::time::sleep(ROUND).await;
        world.look();
        if !world.lock().checkers.violations.is_empty() {
            return;
        }
        while unsettled(world).is_empty() {
            let last = world.lock().last_write;
            if last.elapsed() >= QUIET {
                return;
            }
            if began.elapsed() >= PATIENCE {
                let at = world.elapsed();
                world
                    .lock()
                    .checkers
                    .blame(at, "invariant 7: the cluster never becomes quiet".to_owned());
                return;
            }
            tokio::time::sleep_until(last + QUIET).await;
            world.look();
        }
    }
    let (at, unsettled) = (world.elapsed(), unsettled(world));
    let what = format!(
        "invariant 7: the cluster never becomes what its sets say: {}",
        unsettled.join("; ")
    );
    world.lock().checkers.blame(at, what);
}

/// What is not as the sets say.
fn unsettled(world: &World) -> Vec<String> {
    let state = world.lock();
    let checkers = &state.checkers;
    let mut found = Vec::new();
    let mut wanted = std::collections::BTreeSet::new();
    for name in NAMES {
        let Some(set) = checkers.get("statefulsets", name) else {
            found.push(format!("there is no {name}"));
            continue;
        };
        let spec = &set["spec"];
        let (start, replicas) = (
            spec["ordinals"]["start"].as_i64().unwrap_or(0),
            spec["replicas"].as_i64().unwrap_or(1),
        );
        for ordinal in start..start + replicas {
            let pod_name = format!("{name}-{ordinal}");
            let pod = checkers.get("pods", &pod_name);
            let is_right = pod.is_some_and(|pod| {
                is_ready(pod)
                    && pod["metadata"]["deletionTimestamp"].is_null()
                    && image_of(pod) == image_of(&spec["template"])
                    && pod["metadata"]["ownerReferences"][0]["uid"] == set["metadata"]["uid"]
            });
            let claim = checkers.get("persistentvolumeclaims", &format!("www-{pod_name}"));
            let has_claims = !spec["volumeClaimTemplates"].is_null();
            if !is_right || (has_claims && claim.is_none()) {
                found.push(format!("{pod_name} is not as it should be"));
            }
            wanted.insert(pod_name);
        }
        let status = &set["status"];
        let counts = [
            "replicas",
            "readyReplicas",
            "availableReplicas",
            "updatedReplicas",
            "currentReplicas",
        ];
        let is_told = counts
            .iter()
            .all(|count| status[*count].as_i64().unwrap_or(0) == replicas);
        if !is_told || status["currentRevision"] != status["updateRevision"] {
            found.push(format!("the status of {name} is {status}"));
        }
    }
    found.extend(
        checkers
            .names("pods")
            .difference(&wanted)
            .map(|pod| format!("{pod} should not be")),
    );
    found
}
