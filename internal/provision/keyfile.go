package provision

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// KeyFile is what the private key file on this machine has.
type KeyFile struct {
	// Path is where it is or is to be.
	Path string `yaml:"path"`
	// Public is the public key in OpenSSH's form without a comment; empty if there
	// is no such file.
	Public string `yaml:"public"`
	// Problem says why the file cannot be used, and what would be right.
	Problem string `yaml:"problem"`
}

// readKeyFile looks at the private key. A file that cannot be used is no error here
// but a problem that the plan reports with all the others.
func readKeyFile(path string) KeyFile {
	k := KeyFile{Path: path}
	if path == "" {
		return k
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			k.Problem = fmt.Sprintf("its folder %s is not there: make it first, with the mode 0700", filepath.Dir(path))
		}
		return k
	case err != nil:
		k.Problem = fmt.Sprintf("it cannot be read: %v", err)
		return k
	case !info.Mode().IsRegular():
		k.Problem = "it is no file"
		return k
	case info.Mode().Perm()&0o077 != 0:
		k.Problem = fmt.Sprintf("its mode is %04o, so that others can read it: chmod 600 %s", info.Mode().Perm(), path)
		return k
	}
	content, err := os.ReadFile(path)
	if err != nil {
		k.Problem = fmt.Sprintf("it cannot be read: %v", err)
		return k
	}
	signer, err := ssh.ParsePrivateKey(content)
	if err == nil {
		k.Public = authorized(signer.PublicKey())
		return k
	}
	locked, isLocked := errors.AsType[*ssh.PassphraseMissingError](err)
	if !isLocked {
		k.Problem = fmt.Sprintf("it is not a private key that OpenSSH would read: %v", err)
		return k
	}
	// The newer format has the public half in the open, the older one beside it.
	if locked.PublicKey != nil {
		k.Public = authorized(locked.PublicKey)
		return k
	}
	beside, err := os.ReadFile(path + ".pub")
	if err == nil {
		var public ssh.PublicKey
		if public, _, _, _, err = ssh.ParseAuthorizedKey(beside); err == nil {
			k.Public = authorized(public)
			return k
		}
	}
	k.Problem = fmt.Sprintf("it has a passphrase, and %s.pub, which would say its public key, cannot be read: %v", path, err)
	return k
}

// makeKeyFile writes a new ed25519 key and its public half beside it. A file that
// is there is never written over: then the error is fs.ErrExist. A kill leaves
// either no private key or a whole one.
func makeKeyFile(path, comment string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return fmt.Errorf("encode the key: %w", err)
	}
	if err := writeNew(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return fmt.Errorf("write the private key: %w", err)
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		return fmt.Errorf("encode the public key: %w", err)
	}
	// For people alone: the private key says it too.
	if err := writeNew(path+".pub", []byte(authorized(line)+" "+comment+"\n"), 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write the public key: %w", err)
	}
	return nil
}

// writeNew makes a file with its whole content or not at all, and only if there is
// none of its name.
func writeNew(path string, content []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// authorized is a public key as a line of authorized_keys, without a comment.
func authorized(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// splitKey takes a public key line apart into what counts and the comment.
func splitKey(line string) (key, comment string) {
	words := strings.SplitN(strings.TrimSpace(line), " ", 3)
	if len(words) < 2 {
		return strings.TrimSpace(line), ""
	}
	if len(words) == 3 {
		comment = strings.TrimSpace(words[2])
	}
	return words[0] + " " + words[1], comment
}

// fingerprint is what people compare: SHA256 as ssh-keygen says it, and MD5 as the
// cloud does.
func fingerprint(line string) string {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return "unreadable"
	}
	return ssh.FingerprintSHA256(key) + " (MD5 " + ssh.FingerprintLegacyMD5(key) + ")"
}
