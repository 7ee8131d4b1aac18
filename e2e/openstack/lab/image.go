package lab

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/scalehook/scalehook/e2e/guest"
)

// guestImage puts the demo's guest, which reads config drives too, into the state
// folder and returns its folder.
func (u *bringUp) guestImage(ctx context.Context) (string, error) {
	folder := u.path("image")
	built, err := guest.Build(ctx, guest.BuildOptions{})
	if err != nil {
		return "", fmt.Errorf("make the image: %w", err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("make the image: %w", err)
	}
	from, err := os.Open(built.Path)
	if err != nil {
		return "", fmt.Errorf("make the image: %w", err)
	}
	defer from.Close()
	to, err := os.Create(u.path("image", "guest.qcow2"))
	if err != nil {
		return "", fmt.Errorf("make the image: %w", err)
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		return "", fmt.Errorf("make the image: %w", err)
	}
	if err := to.Close(); err != nil {
		return "", fmt.Errorf("make the image: %w", err)
	}
	return folder, nil
}
