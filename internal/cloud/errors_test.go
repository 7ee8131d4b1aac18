package cloud

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/scalehook/scalehook/internal/scaling"
)

func answered(method string, status int, body string) error {
	return gophercloud.ErrUnexpectedResponseCode{Method: method, URL: "http://cloud.example/x", Actual: status, Body: []byte(body)}
}

func TestWhatAnErrorOfACloudMeans(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want scaling.Class
		says string
	}{
		{"a token that is refused", answered("GET", 401, `{"error": {"message": "The request you have made requires authentication.", "code": 401}}`), scaling.Permanent, "requires authentication"},
		{"a policy", answered("POST", 403, `{"forbidden": {"message": "Policy doesn't allow os_compute_api:servers:create to be performed.", "code": 403}}`), scaling.Permanent, "Policy doesn't allow"},
		{"Nova's quota", answered("POST", 403, `{"forbidden": {"message": "Quota exceeded for instances: Requested 1, but already used 1 of 1 instances", "code": 403}}`), scaling.Quota, "already used 1 of 1"},
		{"Nova's quota of ports", answered("POST", 403, `{"forbidden": {"message": "Maximum number of ports exceeded", "code": 403}}`), scaling.Quota, ""},
		{"Neutron's quota", answered("POST", 409, `{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['port'].", "detail": ""}}`), scaling.Quota, "['port']"},
		{"a subnet without addresses", answered("POST", 409, `{"NeutronError": {"type": "IpAddressGenerationFailure", "message": "No more IP addresses available on network x.", "detail": ""}}`), scaling.Quota, ""},
		{"an external network without addresses", answered("POST", 400, `{"NeutronError": {"message": "Unable to find any IP address on external network x."}}`), scaling.Quota, ""},
		{"Cinder's quota", answered("POST", 413, `{"overLimit": {"message": "VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes'.", "code": 413}}`), scaling.Quota, "VolumeLimitExceeded"},
		{"no storage", answered("POST", 507, ``), scaling.Quota, "507"},
		{"a bad request", answered("POST", 400, `{"badRequest": {"message": "Invalid key_name provided.", "code": 400}}`), scaling.Permanent, "Invalid key_name"},
		{"a bad request that mentions a task", answered("POST", 400, `{"badRequest": {"message": "no task_state"}}`), scaling.Permanent, ""},
		{"an object that Nova does not have", answered("GET", 404, `{"itemNotFound": {"message": "Instance x could not be found.", "code": 404}}`), scaling.NotFound, "could not be found"},
		{"an object that Glance does not have", answered("GET", 404, "<html><head><title>404 Not Found</title></head><body><h1>404 Not Found</h1>No image found with ID x<br /><br /></body></html>"), scaling.NotFound, "No image found with ID x"},
		{"a proxy's 404", answered("GET", 404, "<html><body><h1>Not Found</h1></body></html>"), scaling.Temporary, "Not Found"},
		{"a 404 without a word", answered("GET", 404, ""), scaling.Temporary, ""},
		{"an object that is gone", answered("GET", 410, ""), scaling.NotFound, ""},
		{"a microversion that is not there", answered("GET", 406, `{"computeFault": {"message": "Version 2.72 is not supported by the API.", "code": 406}}`), scaling.Permanent, "2.72"},
		{"a conflict", answered("POST", 409, `{"conflictingRequest": {"message": "Instance x is locked", "code": 409}}`), scaling.Conflict, "locked"},
		{"a server that is at something else", answered("POST", 409, `{"conflictingRequest": {"message": "Cannot 'start' instance x while it is in task_state powering-off", "code": 409}}`), scaling.Temporary, ""},
		{"a load balancer that is at something else", answered("PUT", 409, `{"faultcode": "Client", "faultstring": "Load Balancer x is immutable and cannot be updated.", "debuginfo": null}`), scaling.Temporary, "immutable"},
		{"too many requests", answered("POST", 429, `{"error": {"message": "slow down"}}`), scaling.Temporary, "slow down"},
		{"a service that broke", answered("POST", 500, `{"computeFault": {"message": "Unexpected API Error.", "code": 500}}`), scaling.Temporary, "Unexpected API Error"},
		{"a service that is not there", answered("POST", 503, "<html>No server is available</html>"), scaling.Temporary, "No server is available"},
		{"a proxy that gave up a change", answered("POST", 504, ""), scaling.Unknown, ""},
		{"a proxy that gave up a question", answered("GET", 504, ""), scaling.Temporary, ""},
		{"nothing of the kind is there", answered("POST", 501, ""), scaling.Permanent, ""},
		{"a success that nobody expected", answered("POST", 207, ""), scaling.Unknown, ""},
		{"a change that was not sent", &lost{"POST", "http://x", false, errors.New("connection refused")}, scaling.Temporary, "not sent"},
		{"a change whose answer is lost", &lost{"POST", "http://x", true, io.EOF}, scaling.Unknown, "no whole answer"},
		{"a deletion whose time is up", &lost{"DELETE", "http://x", true, context.DeadlineExceeded}, scaling.Unknown, ""},
		{"a question whose time is up", &lost{"GET", "http://x", true, context.DeadlineExceeded}, scaling.Temporary, ""},
		{"a certificate that nobody vouches for", &lost{"POST", "https://x", false, x509.UnknownAuthorityError{}}, scaling.Permanent, "ca_file"},
		{"a call that ended before it began", context.Canceled, scaling.Temporary, ""},
		{"a token that cannot be renewed", &gophercloud.ErrUnableToReauthenticate{ErrOriginal: answered("POST", 401, ""), ErrReauth: answered("POST", 401, "")}, scaling.Permanent, "renew the token"},
		{"a renewal that found nobody", &gophercloud.ErrUnableToReauthenticate{ErrOriginal: answered("POST", 401, ""), ErrReauth: &lost{"POST", "http://x", true, io.EOF}}, scaling.Temporary, ""},
		{"what came after a renewal", &gophercloud.ErrErrorAfterReauthentication{ErrOriginal: answered("POST", 409, `{"x": {"message": "Quota exceeded"}}`)}, scaling.Quota, ""},
		{"an error that has a class", scaling.Errorf(scaling.Conflict, "mine"), scaling.Conflict, "mine"},
		{"an error that nobody knows", errors.New("what?"), scaling.Unknown, "what?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Error(c.err, "look at %s", "it")
			if got := scaling.ClassOf(err); got != c.want {
				t.Errorf("%v: class %s, want %s", err, got, c.want)
			}
			if !strings.HasPrefix(err.Error(), "look at it: ") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q does not say %q", err, c.says)
			}
			if strings.Contains(err.Error(), "<") || strings.Contains(err.Error(), "{") {
				t.Errorf("%q is not for people", err)
			}
		})
	}
	if Error(nil, "nothing") != nil {
		t.Error("no error became one")
	}
}

func TestALongAnswerIsCut(t *testing.T) {
	err := Error(answered(http.MethodGet, 500, strings.Repeat("é", 5000)), "look")
	if len(err.Error()) > 2*longest {
		t.Errorf("%d characters", len(err.Error()))
	}
}
