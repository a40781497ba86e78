//! The rows that decide about certificate signing requests: approve what kubelets ask for, sign, forget.

use api::k8s::api::certificates::v1::CertificateSigningRequest;
use controllers_plan::certificates::{
    Access, Recognized, Verdict, access_review, awaits, judge, plan_approval, plan_cleaning, plan_issued, plan_refused,
    recognized,
};
use controllers_plan::{Key, Kind, Plan};
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::Client;
use serde_json::Value;

use super::Row;
use crate::cache::Change;
use crate::caches::{Caches, Watch};
use crate::names::SIGNING;
use crate::signer::{self, Signer};

/// The controller that approves.
pub(super) const APPROVER: &str = "certificatesigningrequest-approving-controller";

pub(crate) fn approving_row() -> Row {
    Row {
        name: APPROVER,
        watches: vec![Watch::on::<CertificateSigningRequest>(itself)],
        decide: Box::new(|caches, key, _| {
            let request = caches.of::<CertificateSigningRequest>().get("", &key.name);
            let uid = request.as_ref().and_then(|request| request.metadata.uid.as_deref());
            let access = caches.take_access(&key.name, uid);
            match (request, access) {
                (Some(request), Some(access)) => plan_approval(&request, &access),
                _ => Plan::default(),
            }
        }),
    }
}

pub(crate) fn signing_row(signer: Signer) -> Row {
    Row {
        name: SIGNING,
        watches: vec![Watch::on::<CertificateSigningRequest>(itself)],
        decide: Box::new(move |caches, key, now| {
            let request = caches.of::<CertificateSigningRequest>().get("", &key.name);
            request.map_or_else(Plan::default, |request| sign(&signer, &request, now))
        }),
    }
}

pub(crate) fn cleaning_row() -> Row {
    Row {
        name: "certificatesigningrequest-cleaner-controller",
        watches: vec![Watch::on::<CertificateSigningRequest>(itself)],
        decide: Box::new(|caches, key, now| {
            let Some(request) = caches.of::<CertificateSigningRequest>().get("", &key.name) else {
                return Plan::default();
            };
            let issued = request.status.as_ref().and_then(|status| status.certificate.as_ref());
            let not_after = issued.and_then(|pem| signer::end_of(&pem.0));
            plan_cleaning(&request, not_after, now)
        }),
    }
}

fn sign(signer: &Signer, request: &CertificateSigningRequest, now: Timestamp) -> Plan {
    if !awaits(request) {
        return Plan::default();
    }
    let pem = &request.spec.request.0;
    let contents = signer::contents(pem);
    match judge(request, contents.as_ref().map_err(|why| *why), signer.limits(), now) {
        Verdict::Rest => Plan::default(),
        Verdict::Refuse(why) => plan_refused(request, &why, now),
        Verdict::Hold(why) => held(why),
        Verdict::Sign(template) => match signer.sign(pem, &template) {
            Ok(certificate) => plan_issued(request, certificate),
            Err(error) => held(format!("error auto signing csr: {error}")),
        },
    }
}

fn held(why: String) -> Plan {
    Plan {
        retry: Some(why),
        ..Plan::default()
    }
}

fn itself(_: &Caches, change: &Change<CertificateSigningRequest>) -> Vec<Key> {
    let name = change.latest().metadata.name.clone();
    vec![Key::new(
        Kind::of::<CertificateSigningRequest>(),
        "",
        name.unwrap_or_default(),
    )]
}

/// Asks the server, and notes, whether who asked for a kubelet's certificate has the right to it.
pub(crate) fn look_up<'a>(client: &'a Client, caches: &'a Caches, key: &'a Key) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        let Some(request) = caches.of::<CertificateSigningRequest>().get("", &key.name) else {
            return;
        };
        let Ok(contents) = signer::contents(&request.spec.request.0) else {
            return;
        };
        let mut access = None;
        for recognized in recognized(&request, &contents) {
            let answer = review(client, &request, recognized).await;
            let is_granted = matches!(answer, Access::Granted(_));
            access = Some(answer);
            if is_granted {
                break;
            }
        }
        caches.note_access(&key.name, request.metadata.uid.as_deref(), access);
    })
}

async fn review(client: &Client, request: &CertificateSigningRequest, recognized: Recognized) -> Access {
    let asked = http::Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(access_review(request, recognized).to_string().into_bytes())
        .map_err(kube::Error::HttpError);
    let answer: Result<Value, kube::Error> = match asked {
        Ok(asked) => client.request(asked).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) if answer["status"]["allowed"] == true => Access::Granted(recognized),
        Ok(_) => Access::Denied,
        Err(error) => Access::Unknown(error.to_string()),
    }
}
