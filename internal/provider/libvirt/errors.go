package libvirt

import (
	"errors"
	"slices"
	"strings"

	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/internal/scaling"
)

// classOf says what an error that libvirt returned means. Such an error is an
// answer: the call ended, and without effect. Whether the connection still
// stands is the manager's to know.
func classOf(err error) scaling.Class {
	e, ok := errors.AsType[libvirt.Error](err)
	if !ok {
		return scaling.ClassOf(err)
	}
	for _, known := range []struct {
		class scaling.Class
		codes []libvirt.ErrorNumber
	}{
		{scaling.NotFound, []libvirt.ErrorNumber{
			libvirt.ERR_NO_DOMAIN, libvirt.ERR_NO_STORAGE_VOL, libvirt.ERR_NO_DOMAIN_METADATA,
		}},
		{scaling.Permanent, []libvirt.ErrorNumber{
			libvirt.ERR_NO_STORAGE_POOL, libvirt.ERR_NO_NETWORK,
			libvirt.ERR_XML_ERROR, libvirt.ERR_XML_DETAIL, libvirt.ERR_XML_INVALID_SCHEMA,
			libvirt.ERR_CONFIG_UNSUPPORTED, libvirt.ERR_CONF_SYNTAX, libvirt.ERR_NO_SUPPORT,
			libvirt.ERR_INVALID_ARG, libvirt.ERR_ARGUMENT_UNSUPPORTED, libvirt.ERR_OS_TYPE,
			libvirt.ERR_AUTH_FAILED, libvirt.ERR_AUTH_CANCELLED, libvirt.ERR_AUTH_UNAVAILABLE,
			libvirt.ERR_OPERATION_DENIED, libvirt.ERR_OPERATION_UNSUPPORTED, libvirt.ERR_ACCESS_DENIED,
		}},
		{scaling.Conflict, []libvirt.ErrorNumber{libvirt.ERR_DOM_EXIST, libvirt.ERR_STORAGE_VOL_EXIST}},
		{scaling.Quota, []libvirt.ErrorNumber{libvirt.ERR_NO_MEMORY}},
	} {
		if slices.Contains(known.codes, e.Code) {
			return known.class
		}
	}
	return classOfText(e.Message)
}

// classOfText is for the codes that libvirt gives to many things.
func classOfText(message string) scaling.Class {
	message = strings.ToLower(message)
	for _, hint := range []struct {
		text  string
		class scaling.Class
	}{
		{"no space left", scaling.Quota},
		{"not enough free space", scaling.Quota},
		{"disk quota exceeded", scaling.Quota},
		{"cannot allocate memory", scaling.Quota},
		{"already exists", scaling.Conflict},
		{"is already defined", scaling.Conflict},
		{"already in use", scaling.Conflict},
		{"failed to get \"write\" lock", scaling.Conflict},
		{"failed to get shared \"write\" lock", scaling.Conflict},
	} {
		if strings.Contains(message, hint.text) {
			return hint.class
		}
	}
	return scaling.Temporary
}

// hasCode reports whether libvirt answered with that code.
func hasCode(err error, code libvirt.ErrorNumber) bool {
	e, ok := errors.AsType[libvirt.Error](err)
	return ok && e.Code == code
}
