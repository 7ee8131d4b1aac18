package webpage

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed static
var static embed.FS

// assets are the files that a page loads. The name of each holds a part of its sum,
// so that a browser may keep it for ever and never uses an old one.
type assets struct {
	names map[string]string // what is served for a file
	files map[string]asset
	// version changes with any of them and with the templates.
	version string
}

type asset struct {
	kind, etag string
	body       []byte
}

func loadAssets() assets {
	a := assets{names: map[string]string{}, files: map[string]asset{}}
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	all := sha256.New()
	for _, dir := range []fs.FS{static, templates} {
		// What is embedded can be read.
		_ = fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			body, err := fs.ReadFile(dir, name)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(body)
			all.Write(sum[:])
			base, ext := path.Base(name), path.Ext(name)
			if kind := kinds[ext]; kind != "" {
				served := fmt.Sprintf("%s.%x%s", strings.TrimSuffix(base, ext), sum[:6], ext)
				a.names[base] = "/static/" + served
				a.files[served] = asset{kind, fmt.Sprintf(`"%x"`, sum[:6]), body}
			}
			return nil
		})
	}
	a.version = hex.EncodeToString(all.Sum(nil)[:6])
	return a
}

// serve answers with a file.
func (a assets) serve(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	file, found := a.files[r.PathValue("file")]
	if !found {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("ETag", file.etag)
	if r.Header.Get("If-None-Match") == file.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", file.kind)
	if r.Method != http.MethodHead {
		_, _ = w.Write(file.body) // the client is gone if that fails
	}
}
