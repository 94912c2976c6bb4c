//! What a kubelet and a scraper ask the controller, over HTTP.

use liveupdate_lab::wait::{Answer, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::bed::{Bed, SOON, run, says};

/// Head and body of what the first controller answers.
async fn get(bed: &Bed, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(bed.bed.admin_address(0).unwrap()).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: lab\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

/// The value of a series, by its name with all of its labels.
fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.split(' ').next()?.parse().ok())
}

#[test]
fn a_controller_that_leads_says_so_and_counts_what_it_wrote() {
    run(async |bed| {
        for path in ["/livez", "/readyz"] {
            let (head, body) = get(bed, path).await;
            says(&head, &[" 200 ok"]);
            assert_eq!(body, "ok\n", "{path}");
        }
        let pool = bed.pool("measured", 1, |_, _| {}).await;
        pool.roll(|_| {}).await;
        bed.success("measured").await;

        let what = "a page of metrics that knows of the rollout";
        let page = until(what, SOON, async || {
            let (head, page) = get(bed, "/metrics").await;
            says(&head, &[" 200 ok", "content-type: application/openmetrics-text"]);
            let updated = value(&page, r#"liveupdate_nodes{state="Updated"}"#);
            Ok(if updated >= Some(1.0) { Answer::Yes(page) } else { Answer::not_yet(page) })
        });
        let page = page.await.unwrap();
        assert!(page.ends_with("# EOF\n"), "a scraper takes what does not end so for cut off:\n{page}");
        assert_eq!(value(&page, "liveupdate_controller_leader"), Some(1.0));
        let written = value(&page, r#"liveupdate_api_writes_total{kind="NodeLiveUpdate",result="ok"}"#);
        assert!(written >= Some(2.0), "made, and its status written:\n{page}");
        let (head, _) = get(bed, "/healthz").await;
        says(&head, &[" 404 not found"]);
    });
}
