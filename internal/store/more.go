package store

import (
	"bytes"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// A rest moves the fields of T that have no column of their own to and from one
// JSON object, the column "more". A field that is added to a type of the domain
// is therefore kept without a new schema; one that deserves a column gets it by
// a migration, and its name is added where restOf is called.
//
// A zero value takes no room. What the object has beyond the fields of T was
// written by a newer scalehook: an older one refuses it instead of dropping it.
type rest[T any] struct {
	fields []int        // of T
	object reflect.Type // a struct of those fields
}

// restOf returns the rest of T beside the named fields. It panics where T has no
// such field, which the first test to open a store shows.
func restOf[T any](columns ...string) rest[T] {
	var r rest[T]
	t := reflect.TypeFor[T]()
	for _, name := range columns {
		if _, ok := t.FieldByName(name); !ok {
			panic(fmt.Sprintf("%s has no field %s", t, name))
		}
	}
	var fields []reflect.StructField
	for i := range t.NumField() {
		field := t.Field(i)
		if !field.IsExported() || slices.Contains(columns, field.Name) {
			continue
		}
		r.fields = append(r.fields, i)
		fields = append(fields, reflect.StructField{
			Name: field.Name, Type: field.Type, Tag: reflect.StructTag(fmt.Sprintf("json:%q", snake(field.Name)+",omitzero")),
		})
	}
	r.object = reflect.StructOf(fields)
	return r
}

// snake is the name of a field as the database has it: DrainedAt, drained_at.
func snake(name string) string {
	var b strings.Builder
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			lower := i+1 < len(name) && 'a' <= name[i+1] && name[i+1] <= 'z'
			if i > 0 && (lower || !('A' <= name[i-1] && name[i-1] <= 'Z')) {
				b.WriteByte('_')
			}
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}

const noRest = "{}"

// text returns the object of v as the value of a column.
func (r rest[T]) text(v *T) any {
	if len(r.fields) == 0 {
		return noRest
	}
	from, object := reflect.ValueOf(v).Elem(), reflect.New(r.object).Elem()
	for i, field := range r.fields {
		object.Field(i).Set(from.Field(field))
	}
	if object.IsZero() {
		return noRest
	}
	return asJSON(object.Interface())
}

// parse fills v from the object.
func (r rest[T]) parse(text string, v *T) error {
	if text == noRest {
		return nil
	}
	object := reflect.New(r.object)
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(object.Interface()); err != nil {
		if !json.Valid([]byte(text)) {
			return fmt.Errorf("%w (column more: %w)", ErrCorrupt, err)
		}
		return fmt.Errorf("%w (column more: %w)", ErrNewerSchema, err)
	}
	to := reflect.ValueOf(v).Elem()
	for i, field := range r.fields {
		to.Field(field).Set(object.Elem().Field(i))
	}
	return nil
}

// normal makes the rest of v what parse would return for it.
func (r rest[T]) normal(v *T) {
	to := reflect.ValueOf(v).Elem()
	for _, field := range r.fields {
		normalValue(to.Field(field))
	}
}

// normalValue brings times and texts below v to what JSON keeps.
func normalValue(v reflect.Value) {
	if t, ok := reflect.TypeAssert[*time.Time](v.Addr()); ok {
		*t = normalTime(*t)
		return
	}
	//nolint:exhaustive // the other kinds are kept as they are
	switch v.Kind() {
	case reflect.String:
		v.SetString(validText(v.String()))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				normalValue(v.Field(i))
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			normalValue(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			normalValue(v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(key))
			normalValue(value)
			v.SetMapIndex(key, value)
		}
	}
}

// validText is s as JSON keeps it: a driver's message may hold any bytes.
func validText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// jsonList returns a list as the value of a column.
func jsonList[T any](list []T) any {
	if len(list) == 0 {
		return "[]"
	}
	return asJSON(list)
}

func asJSON(v any) any {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // people read it in the shell
	if err := encoder.Encode(v); err != nil {
		return unstorable{err}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// unstorable stands for the value of a column that could not be made. The
// statement it is given to fails with it.
type unstorable struct{ err error }

var _ driver.Valuer = unstorable{}

// Value implements driver.Valuer.
func (u unstorable) Value() (driver.Value, error) { return nil, u }

// Error says why.
func (u unstorable) Error() string { return "cannot be kept as JSON: " + u.err.Error() }
