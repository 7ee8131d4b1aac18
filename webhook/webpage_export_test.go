package webhook

import "github.com/scalehook/scalehook/webhook/webpage"

// Page is the server's web page.
func (s *Server) Page() *webpage.Page { return s.page }
