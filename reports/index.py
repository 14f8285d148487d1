def html(folders, base): return ""
