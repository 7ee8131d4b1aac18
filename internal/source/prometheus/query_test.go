package prometheus

import "testing"

// FuzzDecode: whatever a server or a proxy answers, decoding ends with an answer or
// an error, and an answer has a time and no empty sample.
func FuzzDecode(f *testing.F) {
	f.Add(200, []byte(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0"]}]}}`))
	f.Add(200, []byte(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"histogram":[1,{}]},null]}}`))
	f.Add(503, []byte(`{"status":"error","error":"x"}`))
	f.Add(200, []byte(`[]`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		got, err := decode(status, body)
		if err != nil {
			return
		}
		if got.now.IsZero() {
			t.Error("an answer without a time")
		}
		for _, sample := range got.samples {
			if _, ok := seconds(sample.Value); ok && sample.Value <= 0 {
				t.Errorf("a time of %v", sample.Value)
			}
		}
	})
}
