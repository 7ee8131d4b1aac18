// Package webhook is scalehook's HTTP server: the intake for notifications of
// Alertmanager and of Grafana, the REST API by which people give orders and see
// why a group did or did not scale, the metrics, and the health endpoints.
//
// A request never touches a VM. The handler authenticates, validates, hands the
// intent to whoever stores it (scaling.Intake, scaling.Operator) and answers 2xx
// only once that returned; 503 asks the sender to try again. What is understood
// but not acted on is a 200 with a result per alert, since Alertmanager repeats
// every 4xx for ever.
//
// A request passes, in this order: the counters, the Host check, the check for
// requests across origins, the token, the content type, and the body's limit. A
// client without a token therefore cannot make the server read a body.
package webhook
