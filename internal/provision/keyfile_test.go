package provision

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestAKeyIsMadeOnceWithTheRightModesAndMatchesItsPublicHalf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lab-key")
	if k := readKeyFile(path); k.Public != "" || k.Problem != "" {
		t.Fatalf("a key that is not there: %+v", k)
	}
	if err := makeKeyFile(path, "scalehook:scalehook:lab"); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]fs.FileMode{path: 0o600, path + ".pub": 0o644} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v, want mode %v", name, info, err, mode)
		}
	}
	k := readKeyFile(path)
	beside, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	public, comment := splitKey(string(beside))
	if k.Problem != "" || k.Public != public || comment != "scalehook:scalehook:lab" || !strings.HasPrefix(public, "ssh-ed25519 ") {
		t.Errorf("the file says %+v, the public half %q %q", k, public, comment)
	}

	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := makeKeyFile(path, "again"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a key that is there: %v, want %v", err, fs.ErrExist)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the private key was written over: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 2 {
		t.Errorf("in the folder: %v %v", left, err)
	}
}

func TestAPublicHalfOfSomebodyElseIsNotWrittenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lab-key")
	if err := os.WriteFile(path+".pub", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := makeKeyFile(path, "c"); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path + ".pub"); err != nil || string(text) != "mine" {
		t.Errorf("the file is %q %v", text, err)
	}
	if k := readKeyFile(path); k.Public == "" {
		t.Errorf("the key needs no public half beside it: %+v", k)
	}
}

func TestAPrivateKeyThatCannotBeUsedSaysWhatWouldBeRight(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, content []byte, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct{ path, want string }{
		"one that others can read":         {write("open", pem.EncodeToMemory(good), 0o640), "chmod 600"},
		"a public key":                     {write("public", []byte("ssh-ed25519 AAAA"), 0o600), "not a private key"},
		"a folder":                         {dir, "it is no file"},
		"one in a folder that isn't there": {filepath.Join(dir, "no", "key"), "is not there: make it first"},
	} {
		t.Run(name, func(t *testing.T) {
			if k := readKeyFile(c.path); k.Public != "" || !strings.Contains(k.Problem, c.want) {
				t.Errorf("got %+v, want a problem with %q", k, c.want)
			}
		})
	}
	// The newer format has the public key in the open.
	k := readKeyFile(write("locked", pem.EncodeToMemory(locked), 0o600))
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if k.Problem != "" || k.Public != authorized(signer.PublicKey()) {
		t.Errorf("one with a passphrase: %+v", k)
	}
	if k := readKeyFile(""); k != (KeyFile{}) {
		t.Errorf("no file at all: %+v", k)
	}
}
