package prometheus_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/source/prometheus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source returns a source that asks a handler.
func source(t *testing.T, handler http.HandlerFunc, change ...func(*prometheus.Config)) *prometheus.Source {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	cfg := prometheus.DefaultConfig()
	cfg.URL = server.URL
	for _, c := range change {
		c(&cfg)
	}
	s, err := prometheus.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// vector answers with samples at the server's time now; an age of 10 is written @10.
func vector(now time.Time, samples ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		ts := fmt.Sprintf("%.3f", float64(now.UnixMilli())/1000)
		all := make([]string, 0, len(samples)+1)
		for _, sample := range append(samples, "{} 0") {
			labels, value, _ := strings.Cut(sample, "} ")
			if age, ok := strings.CutPrefix(value, "@"); ok {
				d, err := time.ParseDuration(age)
				if err != nil {
					panic(err)
				}
				value = fmt.Sprintf("%.3f", float64(now.Add(-d).UnixMilli())/1000)
			}
			all = append(all, fmt.Sprintf(`{"metric":%s},"value":[%s,%q]}`, labels, ts, value))
		}
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[%s]}}`, strings.Join(all, ","))
	}
}

func reading(uuid, value string) string {
	return fmt.Sprintf(`{"__name__":"uuid:libvirt_domain_cpu_utilization:ratio","uuid":%q} %s`, uuid, value)
}

func sampled(uuid, age string) string {
	return fmt.Sprintf(`{"__name__":"uuid:libvirt_domain_cpu_sample_timestamp_seconds:max","uuid":%q} @%s`, uuid, age)
}

func fires(group, signal, age string) string {
	return fmt.Sprintf(`{"alertname":"A","alertstate":"firing","scaling_group":%q,"scalehook_signal":%q} @%s`, group, signal, age)
}

func dated(group, age string) string {
	return fmt.Sprintf(`{"__name__":"group:scalehook_cpu_sample_timestamp_seconds:min","scaling_group":%q} @%s`, group, age)
}

func TestReadingsAreThoseThatCanBeDated(t *testing.T) {
	now := time.Now().Truncate(time.Millisecond)
	for _, test := range []struct {
		name    string
		samples []string
		want    map[string]scaling.Reading
	}{
		{"none", nil, map[string]scaling.Reading{}},
		{"two", []string{reading("u1", "0.25"), sampled("u1", "10s"), reading("u2", "0"), sampled("u2", "2m")}, map[string]scaling.Reading{
			"u1": {Utilization: 0.25, At: now.Add(-10 * time.Second)}, "u2": {At: now.Add(-2 * time.Minute)},
		}},
		{"a reading without a time is missing", []string{reading("u1", "0.25")}, map[string]scaling.Reading{}},
		{"a time without a reading is missing", []string{sampled("u1", "1s")}, map[string]scaling.Reading{}},
		{"an old reading is missing", []string{reading("u1", "0.25"), sampled("u1", "121s")}, map[string]scaling.Reading{}},
		{"a reading from the future is missing", []string{reading("u1", "0.25"), sampled("u1", "-10s")}, map[string]scaling.Reading{}},
		{"no number is missing", []string{reading("u1", "NaN"), sampled("u1", "1s")}, map[string]scaling.Reading{}},
		{"infinity is missing", []string{reading("u1", "+Inf"), sampled("u1", "1s")}, map[string]scaling.Reading{}},
		{"more than all is missing", []string{reading("u1", "1.5"), sampled("u1", "1s")}, map[string]scaling.Reading{}},
		{"less than nothing is missing", []string{reading("u1", "-0.1"), sampled("u1", "1s")}, map[string]scaling.Reading{}},
		{"a reading of nobody is left out", []string{reading("", "0.1"), sampled("", "1s")}, map[string]scaling.Reading{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := source(t, vector(now, test.samples...)).Readings(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.EquateApproxTime(2*time.Millisecond)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEvidenceHasTheTimeOfItsOldestReading(t *testing.T) {
	now := time.Now().Truncate(time.Millisecond)
	firing := func(group string, signal scaling.Signal, age time.Duration) scaling.Evidence {
		return scaling.Evidence{Source: "prometheus", Group: group, Signal: signal, State: scaling.EvidenceFiring, At: now.Add(-age)}
	}
	unreachable := func(group string, signal scaling.Signal) scaling.Evidence {
		return scaling.Evidence{Source: "prometheus", Group: group, Signal: signal, State: scaling.EvidenceUnreachable}
	}
	for _, test := range []struct {
		name    string
		samples []string
		want    []scaling.Evidence
	}{
		{"nothing fires", []string{dated("web", "1s")}, []scaling.Evidence{}},
		{"the readings are older than the evaluation", []string{fires("web", "high", "1s"), dated("web", "9s")}, []scaling.Evidence{firing("web", scaling.High, 9*time.Second)}},
		{"the evaluation is older than the readings", []string{fires("web", "high", "20s"), dated("web", "9s")}, []scaling.Evidence{firing("web", scaling.High, 20*time.Second)}},
		{"each group has its own", []string{fires("web", "high", "1s"), dated("web", "9s"), fires("db", "low", "1s"), dated("db", "3s")}, []scaling.Evidence{firing("db", scaling.Low, 3*time.Second), firing("web", scaling.High, 9*time.Second)}},
		{"nothing dates it", []string{fires("web", "low", "1s"), dated("db", "3s")}, []scaling.Evidence{unreachable("web", scaling.Low)}},
		{"it is too old", []string{fires("web", "low", "1s"), dated("web", "3m")}, []scaling.Evidence{unreachable("web", scaling.Low)}},
		{"it was evaluated too long ago", []string{fires("web", "low", "3m"), dated("web", "3s")}, []scaling.Evidence{unreachable("web", scaling.Low)}},
		{"it is of the future", []string{fires("web", "low", "-10s"), dated("web", "-10s")}, []scaling.Evidence{unreachable("web", scaling.Low)}},
		{"the younger of two alerts counts", []string{fires("web", "high", "30s"), strings.Replace(fires("web", "high", "20s"), `"A"`, `"B"`, 1), dated("web", "1s")}, []scaling.Evidence{firing("web", scaling.High, 20*time.Second)}},
		{"no signal, no group", []string{fires("web", "sideways", "1s"), fires("", "high", "1s"), dated("web", "1s")}, []scaling.Evidence{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := source(t, vector(now, test.samples...)).Confirm(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ignore := cmpopts.IgnoreFields(scaling.Evidence{}, "Fingerprint", "Detail", "At")
			for i := range got {
				if got[i].State == scaling.EvidenceUnreachable && got[i].Detail == "" {
					t.Error("an unreachable signal says nothing of why")
				}
				if i < len(test.want) && got[i].State == scaling.EvidenceFiring && got[i].At.Sub(test.want[i].At).Abs() > 2*time.Millisecond {
					t.Errorf("evidence time %v, want %v", got[i].At, test.want[i].At)
				}
			}
			if diff := cmp.Diff(test.want, got, ignore); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnAnswerThatIsNoneIsAnError(t *testing.T) {
	write := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	now := time.Now()
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		class   scaling.Class
		want    string
	}{
		{"an error of the query", write(400, `{"status":"error","errorType":"bad_data","error":"parse error"}`), scaling.Permanent, "400 Bad Request: parse error"},
		{"not authorized", write(401, "who are you?"), scaling.Permanent, "401 Unauthorized: who are you?"},
		{"too many requests", write(429, "later"), scaling.Temporary, "429 Too Many Requests: later"},
		{"starting", write(503, "Service Unavailable"), scaling.Temporary, "503"},
		{"a query that took too long", write(503, `{"status":"error","errorType":"timeout","error":"query timed out"}`), scaling.Temporary, "query timed out"},
		{"a web page", write(200, "<html>"), scaling.Temporary, "not an answer of Prometheus's API"},
		{"nothing", write(200, ""), scaling.Temporary, "not an answer of Prometheus's API"},
		{"a matrix", write(200, `{"status":"success","data":{"resultType":"matrix","result":[]}}`), scaling.Temporary, "not an instant vector"},
		{"no marker, so not complete", write(200, `{"status":"success","data":{"resultType":"vector","result":[]}}`), scaling.Temporary, "not complete"},
		{"an empty sample", write(200, `{"status":"success","data":{"resultType":"vector","result":[null]}}`), scaling.Temporary, "empty sample"},
		{"a result of the wrong kind", write(200, `{"status":"success","data":{"resultType":"vector","result":{"a":1}}}`), scaling.Temporary, "not an instant vector"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"status":"succ`)
		}, scaling.Temporary, "unexpected EOF"},
		{"far too long", func(w http.ResponseWriter, _ *http.Request) {
			for range 17 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, scaling.Permanent, "more than 16777216 bytes"},
		{"a clock that is ahead", vector(now.Add(time.Minute)), scaling.Permanent, "its clock differs from ours by"},
		{"a clock that is behind", vector(now.Add(-time.Minute)), scaling.Permanent, "its clock differs from ours by"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := source(t, test.handler)
			_, confirmErr := s.Confirm(t.Context())
			_, readErr := s.Readings(t.Context())
			for _, err := range []error{confirmErr, readErr} {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want something with %q", err, test.want)
				} else if class := scaling.ClassOf(err); class != test.class {
					t.Errorf("%v is %v, want %v", err, class, test.class)
				}
			}
		})
	}
}

func TestALookUpEndsWithItsDeadlineAndWithItsContext(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	s := source(t, hang, func(c *prometheus.Config) { c.Timeout = 100 * time.Millisecond })
	if _, err := s.Readings(t.Context()); err == nil || scaling.ClassOf(err) != scaling.Temporary || !strings.Contains(err.Error(), "no answer within 100ms") {
		t.Errorf("got %v", err)
	}
	s = source(t, hang, func(c *prometheus.Config) { c.Timeout = time.Minute })
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("we are stopping"))
	if _, err := s.Confirm(ctx); err == nil || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "we are stopping") {
		t.Errorf("got %v", err)
	}
}

func TestATokenInAFileIsReadAgainAndNeverShown(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 2)
	now := time.Now()
	s := source(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization")
		vector(now)(w, r)
	}, func(c *prometheus.Config) {
		text := "url: " + c.URL + "/\nhttp_client: {authorization: {credentials_file: " + token + "}}\n"
		if err := yaml.Unmarshal([]byte(text), c); err != nil {
			t.Fatal(err)
		}
	})
	for _, secret := range []string{"first", "second"} {
		if err := os.WriteFile(token, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Readings(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := <-seen; got != "Bearer "+secret {
			t.Errorf("sent %q", got)
		}
	}
}

func TestConfigurationIsStrictAndSaysWhatWouldBeRight(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"nothing stated", "{}", ""},
		{"a prefix", "url: https://example.org/prometheus", ""},
		{"an unknown key", "urls: x", "field urls not found"},
		{"an unknown key of the client", "http_client: {bogus: 1}", "field bogus not found"},
		{"no scheme", "url: localhost:9090", "use an http or https URL"},
		{"a query", "url: http://a/?x=1", "leave out query and fragment"},
		{"a password", "url: http://a:secret@b", "http_client.basic_auth"},
		{"no timeout", "timeout: 0s", "timeout 0s: use 100ms to 1m"},
		{"believes everything", "max_age: 2h", "max_age 2h0m0s"},
		{"any clock", "max_clock_skew: 1h", "max_clock_skew 1h0m0s"},
		{"two kinds of authorization", "http_client: {bearer_token: x, basic_auth: {username: y}}", "at most one of"},
		{"a certificate that is not there", "http_client: {tls_config: {ca_file: /does/not/exist}}", "/does/not/exist"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := prometheus.DefaultConfig()
			decoder := yaml.NewDecoder(strings.NewReader(test.text))
			decoder.KnownFields(true)
			err := decoder.Decode(&cfg)
			if err == nil {
				_, err = prometheus.New(cfg)
			}
			if test.want == "" && err == nil {
				return
			}
			if test.want == "" || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the secret is shown: %v", err)
			}
		})
	}
}
