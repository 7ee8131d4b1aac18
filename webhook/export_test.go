package webhook

import "github.com/labstack/echo/v4"

// Routes lists what is served, as "METHOD path".
func (s *Server) Routes() (list []string) {
	e, _ := s.routes().(*echo.Echo)
	for _, r := range e.Routes() {
		list = append(list, r.Method+" "+r.Path)
	}
	return list
}
