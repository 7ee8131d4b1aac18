package delivery

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// The headers of a delivery.
const (
	// HeaderDelivery is the id of the delivery, the same for every try: a receiver
	// that has seen it has nothing more to do.
	HeaderDelivery = "X-Scalehook-Delivery"
	// HeaderTimestamp is when this try was made, in seconds since 1970.
	HeaderTimestamp = "X-Scalehook-Timestamp"
	// HeaderSignature is Sign's result for the timestamp and the body.
	HeaderSignature = "X-Scalehook-Signature"
)

// Sign returns "sha256=" and, in lower-case hex, the HMAC-SHA256 of the timestamp
// as it stands in its header, a full stop, and the body. With the timestamp signed
// too, a receiver can refuse what somebody recorded and sends again later.
func Sign(secret []byte, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(timestamp + ".")) // never fails, as hash.Hash documents
	_, _ = mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}
