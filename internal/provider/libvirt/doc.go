// Package libvirt is the provider for VMs on a libvirt host: linked qcow2 clones
// of an image, made and removed through libvirt's own interface only. Nothing is
// shelled out, and nothing needs access to the host's files.
//
// What makes a VM ours is a mark in its definition (mark.go), valid only
// together with the VM's own uuid, which is the instance's id. The definition
// is written first and names the volumes that follow, so that it is the journal
// of everything made for an instance; volumes carry the id in their names
// (volume.go). So Create can be run again after any interruption, and Delete
// finds what is there.
//
// Calls into libvirt cannot be cancelled. The manager (conn.go) runs each on a
// connection that nothing else uses at that moment, leaves it behind when its
// context ends, and holds back further calls for that instance until it
// returned. Nothing here retries, undoes, or waits for a guest.
package libvirt
