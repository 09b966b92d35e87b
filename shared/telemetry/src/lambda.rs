//! One JSON line for each event on stdout, as Lambda's log format JSON takes it, with the invocation's request id and X-Ray
//! trace. A line that says how long an operation took is a metric as well: it carries its own description in the embedded
//! metric format (EMF), so that nothing is sent anywhere.

use std::io::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The namespace of our metrics in CloudWatch.
const NAMESPACE: &str = "AgentIdentity";

/// The field that makes a line a metric: how long it took, in microseconds.
const DURATION: &str = "micros";

/// Fields by which metrics are told apart, the first that a line has.
const DIMENSIONS: [&str; 2] = ["operation", "outcome"];

/// Fields of spans that a line repeats: those of `lambda_runtime`'s span.
const OF_THE_INVOCATION: [&str; 2] = ["requestId", "xrayTraceId"];

/// Writes the lines.
pub(crate) struct JsonLines;

/// What a span says about the invocation.
struct Invocation(Map<String, Value>);

impl<S> Layer<S> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        fields.0.retain(|name, _| OF_THE_INVOCATION.contains(&name.as_str()));
        if let Some(span) = context.span(id)
            && !fields.0.is_empty()
        {
            span.extensions_mut().insert(Invocation(fields.0));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Fields::default();
        event.record(&mut line);
        let mut line = line.0;
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(Invocation(fields)) = span.extensions().get() {
                line.extend(fields.clone());
            }
        }
        let now = Timestamp::now();
        describe_metric(&mut line, now.as_millisecond());
        line.insert("timestamp".to_owned(), json!(format!("{now:.3}")));
        line.insert("level".to_owned(), json!(event.metadata().level().as_str()));
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        // In one piece, so that lines do not mix. There is nobody to tell that it cannot be written.
        let _unwritten = std::io::stdout().lock().write_all(text.as_bytes());
    }
}

/// The fields of an event or a span as JSON.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, json!(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, json!(format!("{value:?}")));
    }
}

/// Adds the description of a metric (CloudWatch, "Embedded metric format specification").
fn describe_metric(line: &mut Map<String, Value>, millis: i64) {
    let Some(dimension) = DIMENSIONS.into_iter().find(|name| line.contains_key(*name)) else {
        return;
    };
    if line.contains_key(DURATION) {
        line.insert(
            "_aws".to_owned(),
            json!({
                "Timestamp": millis,
                "CloudWatchMetrics": [{
                    "Namespace": NAMESPACE,
                    "Dimensions": [[dimension]],
                    "Metrics": [{ "Name": DURATION, "Unit": "Microseconds" }],
                }],
            }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_says_how_long_an_operation_took_is_a_metric() {
        let mut line = json!({"operation": "GetResourceApiKey", "micros": 12, "status": 200});
        let map = line.as_object_mut().unwrap();
        describe_metric(map, 5);
        let described = &map["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(described["Dimensions"], json!([["operation"]]));
        assert_eq!(described["Metrics"][0]["Name"], "micros");
    }

    #[test]
    fn any_other_line_is_none() {
        for mut line in [json!({"operation": "x"}), json!({"micros": 1}), json!({})] {
            let map = line.as_object_mut().unwrap();
            describe_metric(map, 5);
            assert!(!map.contains_key("_aws"));
        }
    }
}
