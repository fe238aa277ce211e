"""placeholder"""
def draw(comparison, folder): return []
