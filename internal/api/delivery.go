package api

// DeliveryVersion is the version of Delivery. It changes when a field changes its
// meaning or goes away; fields are added without.
const DeliveryVersion = "1"

// Delivery is what a webhook is told of an activity that ended: the body of the
// request that its receiver gets.
type Delivery struct {
	Version string `json:"version"`
	// ID is the same each time the receiver is told of this activity.
	ID string `json:"id"`
	// Webhook is the name that the configuration gives the receiver.
	Webhook string `json:"webhook"`
	// Owner and Host say which scalehook it is from.
	Owner       string   `json:"owner"`
	Host        string   `json:"host,omitempty"`
	ExternalURL string   `json:"external_url,omitempty"`
	Group       string   `json:"group"`
	Activity    Activity `json:"activity"`
}
