package ask_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/source/ask"
)

func TestGet(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/busy":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/long":
			_, _ = w.Write(make([]byte, ask.MaxAnswer+1))
		case "/cut":
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("short"))
		case "/hangs":
			<-r.Context().Done()
		default:
			_, _ = w.Write([]byte("hello"))
		}
	}))
	defer server.Close()
	for _, test := range []struct {
		name, url string
		class     scaling.Class
		want      string // of the error; empty: none
	}{
		{"an answer", server.URL, scaling.Unknown, ""},
		{"a refusal is an answer", server.URL + "/busy", scaling.Unknown, ""},
		{"a URL that is none", "://", scaling.Permanent, "ask it: "},
		{"nobody listens", "http://127.0.0.1:1", scaling.Temporary, "connection refused"},
		{"too much", server.URL + "/long", scaling.Permanent, "more than 16777216 bytes"},
		{"an answer that breaks off", server.URL + "/cut", scaling.Temporary, "read the answer of it"},
		{"no answer", server.URL + "/hangs", scaling.Temporary, "too slow"},
	} {
		t.Run(test.name, func(t *testing.T) {
			limit := 10 * time.Second
			if strings.HasSuffix(test.url, "/hangs") {
				limit = 50 * time.Millisecond
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errors.New("too slow"))
			defer cancel()
			said, err := ask.Get(ctx, server.Client(), "it", test.url)
			switch {
			case test.want == "" && (err != nil || said.Status == 0 || said.Answered.Before(said.Asked)):
				t.Errorf("got %+v, %v", said, err)
			case test.want != "" && (err == nil || scaling.ClassOf(err) != test.class || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v (%v), want %q (%v)", err, scaling.ClassOf(err), test.want, test.class)
			}
		})
	}
}

func TestAnswerTellsBusyFromRefusing(t *testing.T) {
	for status, want := range map[int]scaling.Class{
		http.StatusBadRequest: scaling.Permanent, http.StatusUnauthorized: scaling.Permanent, http.StatusNotFound: scaling.Permanent,
		http.StatusRequestTimeout: scaling.Temporary, http.StatusTooManyRequests: scaling.Temporary,
		http.StatusInternalServerError: scaling.Temporary, http.StatusServiceUnavailable: scaling.Temporary,
	} {
		if got := (ask.Answer{Status: status}).Class(); got != want {
			t.Errorf("%d is %v, want %v", status, got, want)
		}
	}
}

func TestSkewIsWhatTheRequestDoesNotExplain(t *testing.T) {
	asked := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a := ask.Answer{Asked: asked, Answered: asked.Add(2 * time.Second)}
	for _, test := range []struct {
		name            string
		ahead           time.Duration // of the server's time, beside the question
		precision, want time.Duration
	}{
		{"while it was under way", time.Second, 0, 0},
		{"behind", -3 * time.Second, 0, 3 * time.Second},
		{"behind, but its times are cut", -900 * time.Millisecond, time.Second, 0},
		{"ahead", 5 * time.Second, time.Second, 3 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := a.Skew(asked.Add(test.ahead), test.precision); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestClip(t *testing.T) {
	if got := ask.Clip(strings.Repeat("ä", 150)); len(got) > 210 || !strings.HasSuffix(got, "…") {
		t.Errorf("got %d bytes: %q", len(got), got)
	}
	if got := ask.Clip("a\xff"); got != "a\ufffd" {
		t.Errorf("got %q", got)
	}
}
