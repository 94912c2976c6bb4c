//! The port for machines and operators: health, metrics, and the last report.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use liveupdate_planner::Report;
use serde_json::{Value, json};

use crate::agents::facts::outcome_word;
use crate::metrics::Metrics;

/// What the loop shows to the outside.
#[derive(Debug, Default)]
pub struct Shared {
    /// All metrics.
    pub metrics: Metrics,
    report: Mutex<Arc<Report>>,
    /// The API server was reached: it leads, or stands by.
    ready: AtomicBool,
    leads: AtomicBool,
    epoch: AtomicU64,
}

impl Shared {
    /// The API server answers.
    pub fn ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// This process leads from now on; it ends when it does not any more.
    pub fn lead(&self, epoch: u64) {
        self.metrics.leads(Some(epoch));
        self.epoch.store(epoch, Ordering::Relaxed);
        self.leads.store(true, Ordering::Relaxed);
    }

    /// The number of this process's leadership; none while it does not lead.
    pub fn epoch(&self) -> Option<u64> {
        self.leads().then(|| self.epoch.load(Ordering::Relaxed))
    }

    /// Whether this process leads.
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }

    /// A pass was made.
    pub fn passed(&self, report: Report, planning: Duration, all: Duration) {
        let mut kept = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.passed(&report, &kept, planning, all);
        *kept = Arc::new(report);
    }

    /// The report of the last pass.
    pub fn report(&self) -> Arc<Report> {
        Arc::clone(&self.report.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// All that is served.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/debug/report", get(report))
        .with_state(shared)
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    if shared.ready.load(Ordering::Relaxed) {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the API server was not reached yet\n").into_response()
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.text()).into_response()
}

async fn report(State(shared): State<Arc<Shared>>) -> Response {
    let text = render(&shared.report()).to_string();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The report as JSON: every update with its numbers, every node with what it waits on.
pub fn render(report: &Report) -> Value {
    let updates: serde_json::Map<String, Value> = report
        .updates
        .iter()
        .map(|(name, update)| {
            let devices: serde_json::Map<String, Value> = update
                .devices
                .iter()
                .map(|(outcome, count)| (outcome_word(outcome).to_owned(), json!(count)))
                .collect();
            let step = update.step.as_ref().map(|step| {
                json!({
                    "index": step.index, "of": step.of, "name": step.name, "target": step.target,
                    "waitingFor": step.waiting_for,
                })
            });
            let value = json!({
                "revision": update.record.revision.as_str(),
                "notAccepted": update.not_accepted.as_ref().map(|(reason, why)| {
                    json!({"reason": reason.as_str(), "message": why})
                }),
                "progress": update.progress.map(liveupdate_planner::Reason::as_str),
                "paused": update.paused.map(liveupdate_planner::Reason::as_str),
                "finished": update.record.finished.map(|finished| finished.reason.as_str()),
                "message": update.message,
                "conflictedWith": update.conflicted_with.iter().map(liveupdate_planner::Text::as_str).collect::<Vec<_>>(),
                "counts": {
                    "total": update.total, "eligible": update.eligible, "updated": update.updated,
                    "failed": update.failed, "blocked": update.blocked, "skipped": update.skipped,
                    "waiting": update.waiting, "inFlight": update.record.in_flight.len(),
                },
                "inFlight": update.record.in_flight.iter().map(|entry| {
                    json!({"node": entry.node.as_str(), "uid": entry.uid, "attempt": entry.attempt.as_str()})
                }).collect::<Vec<_>>(),
                "step": step,
                "maxUnavailable": update.max_unavailable,
                "maxFailures": update.max_failures,
                "devices": devices,
            });
            (name.to_string(), value)
        })
        .collect();
    let nodes: serde_json::Map<String, Value> = report
        .nodes
        .iter()
        .map(|(name, node)| {
            let value = json!({
                "update": node.update.as_deref(), "class": format!("{:?}", node.class),
                "reason": node.reason.as_str(), "message": node.message.as_str(),
                "attempt": node.attempt.as_deref(), "aborts": node.aborts,
            });
            (name.to_string(), value)
        })
        .collect();
    json!({"updates": updates, "nodes": nodes})
}

/// Serves until the process ends.
///
/// # Errors
/// What the server ended with.
pub async fn serve(listener: tokio::net::TcpListener, shared: Arc<Shared>) -> std::io::Result<()> {
    axum::serve(listener, router(shared)).await
}
