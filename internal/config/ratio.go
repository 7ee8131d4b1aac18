package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Ratio is a share, written as 70% or 0.7.
type Ratio struct {
	Text  string
	Value float64
	err   error
}

// UnmarshalYAML reads a ratio. What is wrong with it is reported by the
// validation, which knows where it stands.
func (r *Ratio) UnmarshalYAML(unmarshal func(any) error) error {
	var text string
	if err := unmarshal(&text); err != nil {
		return err
	}
	*r = parseRatio(text)
	return nil
}

func parseRatio(text string) Ratio {
	r := Ratio{Text: text}
	number, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		v /= 100
	}
	if err != nil || math.IsNaN(v) || v <= 0 || v >= 1 {
		r.err = fmt.Errorf("%q is not a share between 0 and 1: write 70%% or 0.7", text)
		return r
	}
	r.Value = v
	return r
}

// percent writes a share with as many decimals as it needs, at most one, rounded
// down so that it can be used as a limit.
func percent(v float64) string {
	return strconv.FormatFloat(math.Floor(v*1000+1e-9)/10, 'f', -1, 64) + "%"
}
