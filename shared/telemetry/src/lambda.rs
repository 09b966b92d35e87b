//! One JSON line for each event on stdout, as Lambda's log format JSON takes it, with the invocation's request id and X-Ray
//! trace. A line that says how long an operation took is a metric as well: it carries its own description in the embedded
//! metric format (EMF), so that nothing is sent anywhere.
//!
//! Each line is written member by member into one buffer: a line comes with every request, and its bytes and instructions are a
//! good part of what a request costs (`docs/performance.md`).

use std::io::Write as _;

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The namespace of our metrics in CloudWatch.
const NAMESPACE: &str = "AgentIdentity";

/// The field that makes a line a metric: how long it took, in microseconds, as its name says without a unit of 22 bytes.
const DURATION: &str = "micros";

/// Fields by which metrics are told apart, the first that a line has.
const DIMENSIONS: [&str; 2] = ["operation", "outcome"];

/// The field that makes a line one of usage, and all that it counts.
const USED: [&str; 3] = ["given", "waiting", "refused"];

/// By what usage is told apart, as EMF has it.
const USED_BY: &str = r#""workload","provider","path""#;

/// Fields of `lambda_runtime`'s span that a line repeats, or has itself where there is no span.
const REQUEST_ID: &str = "requestId";
const TRACE_ID: &str = "xrayTraceId";

/// The message of most lines, which a line without any means.
const GOES_WITHOUT_SAYING: &str = "served";

/// Writes the lines.
pub(crate) struct JsonLines;

/// What a span says about the invocation, as members.
struct Invocation(Vec<u8>);

impl<S> Layer<S> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut fields = OfTheInvocation::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id)
            && !fields.0.is_empty()
        {
            span.extensions_mut().insert(Invocation(fields.0));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let now = Timestamp::now();
        let mut line = Line::new(now, event.metadata().level().as_str());
        event.record(&mut line);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(Invocation(members)) = span.extensions().get() {
                line.json.extend_from_slice(members);
            }
        }
        let json = line.finish(now.as_millisecond());
        // In one piece, so that lines do not mix. There is nobody to tell that it cannot be written.
        let _unwritten = std::io::stdout().lock().write_all(&json);
    }
}

/// A line that is being written. Writing to memory does not fail, so that results are not looked at.
struct Line {
    json: Vec<u8>,
    /// The place in [`DIMENSIONS`] of the first that the line has.
    dimension: Option<usize>,
    is_timed: bool,
    is_usage: bool,
}

impl Line {
    fn new(now: Timestamp, level: &str) -> Self {
        let mut json = Vec::with_capacity(768);
        let _infallible = write!(json, r#"{{"timestamp":"{now:.3}""#);
        push(&mut json, &[r#","level":""#, level, r#"""#]);
        Self { json, dimension: None, is_timed: false, is_usage: false }
    }

    /// The line's end, before it the description of its metric, if it has one (CloudWatch, "Embedded metric format
    /// specification").
    fn finish(mut self, millis: i64) -> Vec<u8> {
        let dimension = self.dimension.and_then(|place| DIMENSIONS.get(place));
        match (dimension, self.is_timed, self.is_usage) {
            (Some(dimension), true, _) => {
                self.describe(millis, &["\"", dimension, "\""], &[DURATION]);
            }
            (_, _, true) => self.describe(millis, &[USED_BY], &USED),
            _ => {}
        }
        push(&mut self.json, &["}\n"]);
        self.json
    }

    fn describe(&mut self, millis: i64, dimensions: &[&str], metrics: &[&str]) {
        let _infallible = write!(self.json, r#","_aws":{{"Timestamp":{millis}"#);
        push(&mut self.json, &[r#","CloudWatchMetrics":[{"Namespace":""#, NAMESPACE, r#"","Dimensions":[["#]);
        push(&mut self.json, dimensions);
        push(&mut self.json, &[r#"]],"Metrics":["#]);
        for (place, metric) in metrics.iter().enumerate() {
            push(&mut self.json, &[if place > 0 { "," } else { "" }, r#"{"Name":""#, metric, r#""}"#]);
        }
        push(&mut self.json, &["]}]}"]);
    }

    fn put(&mut self, field: &Field, value: impl std::fmt::Display) {
        self.notice(field);
        push(&mut self.json, &[r#",""#, field.name(), r#"":"#]);
        let _infallible = write!(self.json, "{value}");
    }

    fn notice(&mut self, field: &Field) {
        let name = field.name();
        self.is_timed |= name == DURATION;
        self.is_usage |= USED.first() == Some(&name);
        if let Some(place) = DIMENSIONS.iter().position(|dimension| *dimension == name) {
            self.dimension = Some(self.dimension.map_or(place, |before| before.min(place)));
        }
    }
}

fn push(json: &mut Vec<u8>, pieces: &[&str]) {
    for piece in pieces {
        json.extend_from_slice(piece.as_bytes());
    }
}

/// A member, its value as a JSON text.
fn push_text(json: &mut Vec<u8>, name: &str, value: &str) {
    push(json, &[r#",""#, name, r#"":"#]);
    let _infallible = serde_json::to_writer(json, value);
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has neither infinity nor NaN.
        if value.is_finite() {
            self.put(field, value);
        } else {
            self.put(field, "null");
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" && value == GOES_WITHOUT_SAYING {
            return;
        }
        self.notice(field);
        let value = if field.name() == TRACE_ID { trace(value) } else { Some(value) };
        if let Some(value) = value {
            push_text(&mut self.json, field.name(), value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The trace in `Root=1-…;Parent=…;Sampled=1`: what a console searches by. `None` for one that is not kept, which nobody finds.
fn trace(header: &str) -> Option<&str> {
    if header.split(';').any(|part| part == "Sampled=0") {
        return None;
    }
    Some(header.split(';').find_map(|part| part.strip_prefix("Root=")).unwrap_or(header))
}

/// The members of a span that a line repeats.
#[derive(Default)]
struct OfTheInvocation(Vec<u8>);

impl Visit for OfTheInvocation {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            REQUEST_ID => push_text(&mut self.0, REQUEST_ID, value),
            TRACE_ID => {
                if let Some(trace) = trace(value) {
                    push_text(&mut self.0, TRACE_ID, trace);
                }
            }
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if [REQUEST_ID, TRACE_ID].contains(&field.name()) {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// The members of what an event writes: the layer itself writes to stdout.
    #[derive(Clone, Default)]
    struct Kept(std::sync::Arc<std::sync::Mutex<Vec<Vec<u8>>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            let mut line = Line::new(Timestamp::UNIX_EPOCH, event.metadata().level().as_str());
            event.record(&mut line);
            self.0.lock().unwrap().push(line.finish(5));
        }
    }

    fn written(log: impl FnOnce()) -> Value {
        let kept = Kept::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(kept.clone()), log);
        let lines = kept.0.lock().unwrap();
        let [line] = lines.as_slice() else { panic!("one line, not {lines:?}") };
        let line = str::from_utf8(line).unwrap();
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line}");
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn a_line_that_says_how_long_an_operation_took_is_a_metric() {
        let line = written(|| {
            tracing::info!(outcome = "ok", operation = "GetResourceApiKey", micros = 12, "served");
        });
        let described = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(described["Dimensions"], json!([["operation"]]));
        assert_eq!(described["Metrics"][0], json!({"Name": "micros"}));
        assert_eq!((&line["_aws"]["Timestamp"], &line["micros"]), (&json!(5), &json!(12)));
        assert_eq!(line["timestamp"], "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_line_of_usage_is_three_metrics_by_who_used_what_and_how() {
        let line = written(|| {
            tracing::info!(
                workload = "w",
                provider = "p",
                path = "direct",
                given = 3,
                waiting = 0,
                refused = 1,
                "usage"
            );
        });
        let described = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(described["Dimensions"], json!([["workload", "provider", "path"]]));
        assert_eq!(
            described["Metrics"],
            json!([{"Name": "given"}, {"Name": "waiting"}, {"Name": "refused"}])
        );
        assert_eq!(
            (&line["given"], &line["refused"], &line["workload"]),
            (&json!(3), &json!(1), &json!("w"))
        );
    }

    #[test]
    fn any_other_line_is_none() {
        for line in [
            written(|| tracing::info!(operation = "x")),
            written(|| tracing::info!(micros = 1)),
            written(|| tracing::info!("said")),
        ] {
            assert!(line.get("_aws").is_none(), "{line}");
        }
    }

    #[test]
    fn whatever_is_said_is_one_line_of_json() {
        let said = "\"quoted\"\nand \u{1} and \u{2028}, {\"level\":\"ERROR\"}";
        let line = written(|| {
            tracing::info!(a = said, b = ?said, c = f64::NAN, d = -1.5, e = true, f = i64::MIN, "{said}");
        });
        assert_eq!(line["a"], said);
        assert_eq!(line["message"], said);
        assert_eq!((&line["c"], &line["d"], &line["f"]), (&Value::Null, &json!(-1.5), &json!(i64::MIN)));
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn a_line_may_say_itself_whose_it_is() {
        let trace = Some("Root=1-a;Parent=b;Sampled=1");
        let line = written(|| tracing::info!(requestId = "r-1", xrayTraceId = trace, "said"));
        assert_eq!((&line["requestId"], &line["xrayTraceId"]), (&json!("r-1"), &json!("1-a")));
    }

    #[test]
    fn what_goes_without_saying_is_not_said() {
        assert!(written(|| tracing::info!(operation = "x", "served")).get("message").is_none());
        assert_eq!(written(|| tracing::info!(operation = "x", "refused"))["message"], "refused");
    }

    #[test]
    fn a_trace_that_nobody_keeps_is_not_named() {
        let line = written(|| tracing::info!(xrayTraceId = "Root=1-a;Parent=b;Sampled=0", "said"));
        assert!(line.get("xrayTraceId").is_none());
    }

    #[test]
    fn of_the_trace_the_root_is_kept() {
        #[derive(Clone, Default)]
        struct Spans(Kept);
        impl<S: Subscriber> Layer<S> for Spans {
            fn on_new_span(
                &self,
                attributes: &span::Attributes<'_>,
                _id: &span::Id,
                _context: Context<'_, S>,
            ) {
                let mut fields = OfTheInvocation::default();
                attributes.record(&mut fields);
                self.0.0.lock().unwrap().push(fields.0);
            }
        }
        let spans = Spans::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(spans.clone()), || {
            let trace = "Root=1-a;Parent=b;Sampled=1";
            let _span = tracing::info_span!("invoke", requestId = "r-1", xrayTraceId = trace, other = 1);
        });
        assert_eq!(*spans.0.0.lock().unwrap(), [br#","requestId":"r-1","xrayTraceId":"1-a""#]);
    }
}
