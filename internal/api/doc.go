// Package api holds what travels over scalehook's REST API as JSON: the answer's
// envelope, groups, instances, activities and verdicts as they are shown, and
// the bodies of orders. The server turns the domain's types into these and the
// client reads them, so a change of the domain is not a change of the API by
// accident.
//
// Fields are only ever added. Times are RFC 3339 and left out while unknown;
// durations are Go's strings ("1m30s"); ratios are 0..1. Readers must ignore
// fields that they do not know.
package api
