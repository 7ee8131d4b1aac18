package main

import "testing"

func TestWhereTheFloatingIPsLeadAfterTheHandover(t *testing.T) {
	clones := []string{"192.168.100.20", "203.0.113.20"}
	free, leads := floating{Address: "203.0.113.10"}, floating{Address: "203.0.113.20", Fixed: "192.168.100.20"}
	for _, tt := range []struct {
		name      string
		addresses []floating
		good      bool
	}{
		{"the provisioned one leads nowhere, and the clone has one", []floating{free, leads}, true},
		{"the provisioned one still leads somewhere", []floating{{Address: free.Address, Fixed: "192.168.100.10"}, leads}, false},
		{"the provisioned one was taken for the clone", []floating{{Address: free.Address, Fixed: leads.Fixed}}, false},
		{"the provisioned one is gone", []floating{leads}, false},
		{"the clone's leads nowhere", []floating{free, {Address: leads.Address}}, false},
		{"the clone's leads to somebody else", []floating{free, {Address: leads.Address, Fixed: "192.168.100.30"}}, false},
		{"the clone has none", []floating{free}, false},
		{"one is left over", []floating{free, leads, {Address: "203.0.113.30"}}, false},
	} {
		if err := onlyTheClones(tt.addresses, free.Address, clones); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
